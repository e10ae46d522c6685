package password

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // {SSHA} is verified, never made
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
)

func sha1Sum(b []byte) []byte   { h := sha1.Sum(b); return h[:] } //nolint:gosec // see above
func sha256Sum(b []byte) []byte { h := sha256.Sum256(b); return h[:] }
func sha512Sum(b []byte) []byte { h := sha512.Sum512(b); return h[:] }

// HashRandom returns a hash for a password that a machine has made from 64 bits
// or more, as {SSHA512}: guessing is hopeless however fast it goes, and checking
// costs a microsecond.
func HashRandom(password string) string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails since Go 1.24
	sum := sha512Sum(append([]byte(password), salt...))
	return "{SSHA512}" + base64.StdEncoding.EncodeToString(append(sum, salt...))
}

// checkSalted checks base64(sum(password, salt), salt); a salt has 1 to 64 bytes.
func checkSalted(encoded, password string, sum func([]byte) []byte) bool {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	size := len(sum(nil))
	if len(raw) <= size || len(raw) > size+64 {
		return false
	}
	return subtle.ConstantTimeCompare(raw[:size], sum(append([]byte(password), raw[size:]...))) == 1
}
