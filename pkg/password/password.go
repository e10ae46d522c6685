// Package password hashes passwords and checks them against hashes in the forms
// of userPassword (RFC 2307 §5.3, RFC 3112), and derives what SCRAM keeps (RFC
// 5802).
//
// It is arithmetic: it stores nothing, and knows no user and no directory.
package password

import (
	"strings"
)

// Hash returns password as an argon2id hash (RFC 9106) in the form of
// userPassword: "{ARGON2ID}$argon2id$v=19$m=...,t=...,p=...$salt$hash". It
// takes some 50 ms of a core and 19 MiB: bound how many run at once.
func Hash(password string) string { return "{ARGON2ID}" + argon2id(password) }

// IsHashed reports whether a value of userPassword is a hash of a known scheme,
// checked by us or not. Anything else is a password in clear, even one that
// begins with a brace.
func IsHashed(value string) bool {
	scheme, _ := split(value)
	switch scheme {
	case "ARGON2ID", "ARGON2", "SSHA", "SSHA256", "SSHA384", "SSHA512", "SHA", "SHA256", "SHA512", "SMD5", "MD5", "CRYPT",
		"PBKDF2", "PBKDF2-SHA1", "PBKDF2-SHA256", "PBKDF2-SHA512", "SCRAM-SHA-256":
		return true
	}
	return false
}

// IsStale reports whether a hash is weaker than those that Hash makes: the
// password should be hashed anew when it is next known.
func IsStale(value string) bool {
	scheme, rest := split(value)
	return scheme != "ARGON2ID" && scheme != "ARGON2" || argonStale(rest)
}

// Check reports whether password matches one of the stored values: {ARGON2ID},
// {SSHA}, {SSHA256}, {SSHA384}, {SSHA512}, {CRYPT} with SHA-256, SHA-512 or bcrypt,
// {PBKDF2}, {PBKDF2-SHA256}, {PBKDF2-SHA512}, {SHA}, {MD5} or {SMD5}. Comparison
// takes constant time. A hash whose parameters would cost more than 256 MiB, 16
// passes, 200,000 rounds of crypt, a million of PBKDF2 or bcrypt's cost 14 matches
// nothing, and an empty password neither.
func Check(stored []string, password string) bool {
	if password == "" {
		return false
	}
	ok := false
	for _, s := range stored {
		ok = matches(s, password) || ok
	}
	return ok
}

func matches(stored, password string) bool {
	scheme, rest := split(stored)
	switch scheme {
	case "ARGON2ID", "ARGON2":
		return checkArgon2id(rest, password)
	case "SSHA":
		return checkSalted(rest, password, sha1Sum)
	case "SSHA256":
		return checkSalted(rest, password, sha256Sum)
	case "SSHA512":
		return checkSalted(rest, password, sha512Sum)
	case "CRYPT":
		return checkCrypt(rest, password)
	}
	return matchesOlder(scheme, rest, password)
}

// split parts "{SCHEME}rest"; the scheme in upper case, empty if there is none.
func split(value string) (scheme, rest string) {
	if !strings.HasPrefix(value, "{") {
		return "", value
	}
	scheme, rest, ok := strings.Cut(value[1:], "}")
	if !ok {
		return "", value
	}
	return strings.ToUpper(scheme), rest
}
