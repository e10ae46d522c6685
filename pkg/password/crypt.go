package password

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"hash"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

const (
	maxBcrypt     = 14      // a second or so
	defaultRounds = 5000    // of SHA-crypt, where the hash names none
	minRounds     = 1000    // fewer mean this many
	maxRounds     = 200_000 // ours: 100 ms
	maxCryptSalt  = 16
)

// checkCrypt checks what crypt(3) makes: $5$ and $6$ (SHA-crypt) and $2$ (bcrypt).
func checkCrypt(encoded, password string) bool {
	switch {
	case strings.HasPrefix(encoded, "$2"):
		cost, err := bcrypt.Cost([]byte(encoded))
		return err == nil && cost <= maxBcrypt && bcrypt.CompareHashAndPassword([]byte(encoded), []byte(password)) == nil
	case strings.HasPrefix(encoded, "$5$"):
		return checkSHACrypt(encoded, password, sha256.New, order256())
	case strings.HasPrefix(encoded, "$6$"):
		return checkSHACrypt(encoded, password, sha512.New, order512())
	}
	return false
}

// checkSHACrypt checks "$id$[rounds=N$]salt$hash" (Drepper, "Unix crypt using
// SHA-256 and SHA-512", 2008).
func checkSHACrypt(encoded, password string, algorithm func() hash.Hash, order []int) bool {
	rest, rounds := encoded[3:], defaultRounds
	if after, ok := strings.CutPrefix(rest, "rounds="); ok {
		n, salt, ok := strings.Cut(after, "$")
		given, err := strconv.Atoi(n)
		if !ok || err != nil || given < 0 || given > maxRounds {
			return false
		}
		rest, rounds = salt, max(given, minRounds)
	}
	salt, want, ok := strings.Cut(rest, "$")
	if !ok || len(password) > 4096 {
		return false
	}
	if len(salt) > maxCryptSalt {
		salt = salt[:maxCryptSalt]
	}
	got := cryptEncode(shaCrypt([]byte(password), []byte(salt), rounds, algorithm), order)
	return subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// shaCrypt is steps 1 to 21 of the algorithm.
func shaCrypt(password, salt []byte, rounds int, algorithm func() hash.Hash) []byte {
	sum := func(parts ...[]byte) []byte {
		h := algorithm()
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	b := sum(password, salt, password)
	h := algorithm()
	h.Write(password)
	h.Write(salt)
	h.Write(stretch(b, len(password)))
	for n := len(password); n > 0; n >>= 1 {
		if n&1 != 0 {
			h.Write(b)
		} else {
			h.Write(password)
		}
	}
	a := h.Sum(nil)
	h.Reset()
	for range password {
		h.Write(password)
	}
	p := stretch(h.Sum(nil), len(password))
	h.Reset()
	for range 16 + int(a[0]) {
		h.Write(salt)
	}
	s := stretch(h.Sum(nil), len(salt))
	for i := range rounds {
		h.Reset()
		if i%2 != 0 {
			h.Write(p)
		} else {
			h.Write(a)
		}
		if i%3 != 0 {
			h.Write(s)
		}
		if i%7 != 0 {
			h.Write(p)
		}
		if i%2 != 0 {
			h.Write(a)
		} else {
			h.Write(p)
		}
		a = h.Sum(a[:0])
	}
	return a
}

// stretch repeats b to n bytes.
func stretch(b []byte, n int) []byte {
	out := make([]byte, 0, n+len(b))
	for len(out) < n {
		out = append(out, b...)
	}
	return out[:n]
}

// cryptEncode is step 22: groups of three bytes in the given order, as four
// characters, the lowest six bits first; -1 stands for no byte.
func cryptEncode(sum []byte, order []int) string {
	const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var out strings.Builder
	for i := 0; i < len(order); i += 3 {
		group, chars := 0, 1
		for _, j := range order[i : i+3] {
			group <<= 8
			if j >= 0 {
				group |= int(sum[j])
				chars++
			}
		}
		for range chars {
			out.WriteByte(alphabet[group&63])
			group >>= 6
		}
	}
	return out.String()
}

// order512 is 0 21 42, 22 43 1, 44 2 23 and so on, each byte of each third once.
func order512() []int {
	order := make([]int, 0, 66)
	for i := range 21 {
		triple := [3]int{i, i + 21, i + 42}
		for j := range 3 {
			order = append(order, triple[(j+i)%3])
		}
	}
	return append(order, -1, -1, 63)
}

// order256 is 0 10 20, 21 1 11, 12 22 2 and so on.
func order256() []int {
	order := make([]int, 0, 33)
	for i := range 10 {
		triple := [3]int{i, i + 10, i + 20}
		for j := range 3 {
			order = append(order, triple[(j+2*i)%3])
		}
	}
	return append(order, -1, 31, 30)
}
