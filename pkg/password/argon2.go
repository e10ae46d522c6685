package password

import (
	"crypto/rand"
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

// argon is a hash as its text has it: $argon2id$v=19$m=,t=,p=$salt$key.
type argon struct {
	memory, passes uint32
	threads        uint8
	salt, key      []byte
}

func argon2id(password string) string {
	a := argon{memory: argonMemory, passes: argonTime, threads: argonThreads, salt: make([]byte, 16)}
	_, _ = rand.Read(a.salt) // never fails since Go 1.24
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", a.memory, a.passes, a.threads,
		b64.EncodeToString(a.salt), b64.EncodeToString(a.sum(password, argonKey)))
}

func (a argon) sum(password string, size int) []byte {
	return argon2.IDKey([]byte(password), a.salt, a.passes, a.memory, a.threads, uint32(size))
}

func parseArgon2id(encoded string) (a argon, ok bool) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != "v=19" {
		return a, false
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &a.memory, &a.passes, &a.threads); err != nil ||
		a.memory > 256<<10 || a.passes == 0 || a.passes > 16 || a.threads == 0 {
		return a, false
	}
	var err1, err2 error
	a.salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	a.key, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	return a, err1 == nil && err2 == nil && len(a.key) >= 16 && len(a.key) <= 64
}

func checkArgon2id(encoded, password string) bool {
	a, ok := parseArgon2id(encoded)
	return ok && subtle.ConstantTimeCompare(a.key, a.sum(password, len(a.key))) == 1
}

func argonStale(encoded string) bool {
	a, ok := parseArgon2id(encoded)
	return !ok || a.memory < argonMemory || a.passes < argonTime
}
