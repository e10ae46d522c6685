package password

import (
	"crypto/sha1" //nolint:gosec // {SSHA} is verified, never made
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
)

func sha1Sum(b []byte) []byte   { h := sha1.Sum(b); return h[:] } //nolint:gosec // see above
func sha256Sum(b []byte) []byte { h := sha256.Sum256(b); return h[:] }
func sha512Sum(b []byte) []byte { h := sha512.Sum512(b); return h[:] }

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
