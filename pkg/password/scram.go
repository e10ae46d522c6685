package password

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/text/secure/precis"
)

// scramIterations is what RFC 7677 §4 asks for at least.
const scramIterations = 4096

// SCRAM is what a server keeps of a password for SCRAM-SHA-256 (RFC 5802 §3,
// RFC 7677). Whoever has it can pretend to be the server, and try passwords;
// it is no password itself.
type SCRAM struct {
	Salt       []byte
	Iterations int
	StoredKey  []byte // 32 bytes
	ServerKey  []byte // 32 bytes
}

// NewSCRAM derives the keys of password under a new salt. It takes a
// millisecond or two.
func NewSCRAM(password string) SCRAM {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails since Go 1.24
	return DeriveSCRAM(password, salt, scramIterations)
}

// DeriveSCRAM derives the keys of password (RFC 5802 §3).
func DeriveSCRAM(password string, salt []byte, iterations int) SCRAM {
	salted, err := pbkdf2.Key(sha256.New, prepared(password), salt, iterations, sha256.Size)
	if err != nil {
		panic(err) // FIPS mode and a short salt: ours have 16 bytes
	}
	client := mac(salted, "Client Key")
	stored := sha256.Sum256(client)
	return SCRAM{Salt: salt, Iterations: iterations, StoredKey: stored[:], ServerKey: mac(salted, "Server Key")}
}

// prepared is password as OpaqueString (RFC 8265 §4) has it, the successor of
// SASLprep; one that has no such form counts as it is.
func prepared(password string) string {
	if s, err := precis.OpaqueString.String(password); err == nil {
		return s
	}
	return password
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

const scramScheme = "SCRAM-SHA-256"

// String is the form of authPassword (RFC 5803):
// "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey", in base64.
func (s SCRAM) String() string {
	b64 := base64.StdEncoding
	return fmt.Sprintf("%s$%d:%s$%s:%s", scramScheme, s.Iterations, b64.EncodeToString(s.Salt), b64.EncodeToString(s.StoredKey), b64.EncodeToString(s.ServerKey))
}

// ParseSCRAM reads what String writes; false: it is something else.
func ParseSCRAM(text string) (s SCRAM, ok bool) {
	parts := strings.Split(strings.ReplaceAll(text, " ", ""), "$")
	if len(parts) != 3 || parts[0] != scramScheme {
		return s, false
	}
	iterations, salt, ok1 := strings.Cut(parts[1], ":")
	stored, server, ok2 := strings.Cut(parts[2], ":")
	var errs [4]error
	s.Iterations, errs[0] = strconv.Atoi(iterations)
	s.Salt, errs[1] = base64.StdEncoding.DecodeString(salt)
	s.StoredKey, errs[2] = base64.StdEncoding.DecodeString(stored)
	s.ServerKey, errs[3] = base64.StdEncoding.DecodeString(server)
	ok = ok1 && ok2 && errs == [4]error{} && s.Iterations > 0 && s.Iterations <= 1<<20 &&
		len(s.StoredKey) == sha256.Size && len(s.ServerKey) == sha256.Size && len(s.Salt) > 0
	return s, ok
}
