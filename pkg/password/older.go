package password

import (
	"crypto/md5" //nolint:gosec // {MD5} and {SMD5} are verified, never made
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // likewise
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"hash"
	"strconv"
	"strings"
)

func md5Sum(b []byte) []byte { h := md5.Sum(b); return h[:] } //nolint:gosec // see above

// maxPBKDF2 bounds the rounds of a hash that is checked.
const maxPBKDF2 = 1_000_000

// checkPlainSum checks base64(sum(password)), as {SHA} and {MD5} are.
func checkPlainSum(encoded, password string, sum func([]byte) []byte) bool {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	return err == nil && subtle.ConstantTimeCompare(raw, sum([]byte(password))) == 1
}

// checkPBKDF2 checks "rounds$salt$hash" (RFC 8018 §5.2), as OpenLDAP's pw-pbkdf2 and
// 389 Directory Server write it: in base64 without padding, with a dot for the plus.
func checkPBKDF2(encoded, password string, sum func() hash.Hash) bool {
	parts := strings.Split(encoded, "$")
	if len(parts) != 3 {
		return false
	}
	rounds, err := strconv.Atoi(parts[0])
	if err != nil || rounds < 1 || rounds > maxPBKDF2 {
		return false
	}
	decode := func(s string) ([]byte, error) {
		return base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.ReplaceAll(s, ".", "+"), "="))
	}
	salt, err1 := decode(parts[1])
	want, err2 := decode(parts[2])
	if err1 != nil || err2 != nil || len(want) < 16 || len(want) > 128 || len(salt) > 256 {
		return false
	}
	got, err := pbkdf2.Key(sum, password, salt, rounds, len(want))
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1
}

// matchesOlder checks the schemes that other directories have had as their own.
func matchesOlder(scheme, rest, password string) bool {
	switch scheme {
	case "SHA":
		return checkPlainSum(rest, password, sha1Sum)
	case "MD5":
		return checkPlainSum(rest, password, md5Sum)
	case "SMD5":
		return checkSalted(rest, password, md5Sum)
	case "SSHA384":
		return checkSalted(rest, password, func(b []byte) []byte { h := sha512.Sum384(b); return h[:] })
	case "PBKDF2", "PBKDF2-SHA1":
		return checkPBKDF2(rest, password, sha1.New)
	case "PBKDF2-SHA256":
		return checkPBKDF2(rest, password, sha256.New)
	case "PBKDF2-SHA512":
		return checkPBKDF2(rest, password, sha512.New)
	}
	return false
}
