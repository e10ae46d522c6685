package directory

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // {SSHA} is verified, never made
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of a hash we make: 19 MiB and two passes.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	argonKey     = 32
)

// HashPassword returns password as an argon2id hash (RFC 9106) in the form of
// userPassword: "{ARGON2ID}$argon2id$v=19$m=...,t=...,p=...$salt$hash".
func HashPassword(password string) string {
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails since Go 1.24
	key := argon2.IDKey([]byte(password), salt[:], argonTime, argonMemory, argonThreads, argonKey)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("{ARGON2ID}$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", argonMemory, argonTime, argonThreads,
		b64.EncodeToString(salt[:]), b64.EncodeToString(key))
}

// IsHashed reports whether a value of userPassword is a hash of a known scheme
// (RFC 3112 and its successors), checked by us or not. Anything else is a
// password in clear, even one that begins with a brace.
func IsHashed(value string) bool {
	scheme, _, ok := strings.Cut(strings.TrimPrefix(value, "{"), "}")
	if !ok || !strings.HasPrefix(value, "{") {
		return false
	}
	switch strings.ToUpper(scheme) {
	case "ARGON2ID", "ARGON2", "SSHA", "SSHA256", "SSHA384", "SSHA512", "SHA", "SHA256", "SHA512", "SMD5", "MD5", "CRYPT",
		"PBKDF2", "PBKDF2-SHA256", "PBKDF2-SHA512", "SCRAM-SHA-256":
		return true
	}
	return false
}

// CheckPassword reports whether password matches one of the stored values:
// {ARGON2ID}, {SSHA} or {SSHA512}. Comparison takes constant time; a hash whose
// parameters would cost more than 256 MiB or 16 passes matches nothing. An
// empty password matches nothing.
func CheckPassword(stored []string, password string) bool {
	if password == "" {
		return false
	}
	ok := false
	for _, s := range stored {
		if !IsHashed(s) {
			continue
		}
		scheme, rest, _ := strings.Cut(s[1:], "}")
		switch strings.ToUpper(scheme) {
		case "ARGON2ID", "ARGON2":
			ok = checkArgon2(rest, password) || ok
		case "SSHA":
			ok = checkSalted(rest, password, sha1.Size, func(b []byte) []byte { h := sha1.Sum(b); return h[:] }) || ok
		case "SSHA512":
			ok = checkSalted(rest, password, sha512.Size, func(b []byte) []byte { h := sha512.Sum512(b); return h[:] }) || ok
		}
	}
	return ok
}

func checkSalted(encoded, password string, size int, sum func([]byte) []byte) bool {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) <= size || len(raw) > size+64 {
		return false
	}
	return subtle.ConstantTimeCompare(raw[:size], sum(append([]byte(password), raw[size:]...))) == 1
}

func checkArgon2(encoded, password string) bool {
	parts := strings.Split(encoded, "$") // "", argon2id, v=19, m=,t=,p=, salt, hash
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != "v=19" {
		return false
	}
	var memory, passes uint32
	var threads uint8
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &threads); err != nil ||
		memory > 256<<10 || passes == 0 || passes > 16 || threads == 0 {
		return false
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(want) < 16 || len(want) > 64 {
		return false
	}
	return subtle.ConstantTimeCompare(want, argon2.IDKey([]byte(password), salt, passes, memory, threads, uint32(len(want)))) == 1
}
