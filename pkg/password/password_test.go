package password

import (
	"encoding/base64"
	"strings"
	"testing"
)

// TestForeignHashes checks hashes that other programs made (crypt(3), OpenLDAP).
func TestForeignHashes(t *testing.T) {
	const long = "a longer password that is more than sixty four bytes long, so that it is stretched"
	for _, c := range []struct{ hash, password string }{
		{"{SSHA}FKOsvRGyvJmFtyBme/+y7/2fl6kwMTIzYWJjZA==", "secret"},
		{"{SSHA512}MyEJjYbgFOWUq7wL3+Wri8wTUHF5Pi1pJojqIE8U5n3wtsCwp8nWFo1J248Mm0ks6Xc46pdHgoZJeCp/5ZnXQTAxMjNhYmNk", "secret"},
		{"{SSHA256}" + base64.StdEncoding.EncodeToString(append(sha256Sum([]byte("secretsalt")), "salt"...)), "secret"},
		{"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "secret"},
		{"{MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==", "secret"},
		{"{SMD5}mc0uWpXVVe5747A4pKhGJXNhbHQ=", "secret"},
		{"{SSHA384}BPdC1qPVnOtOWlZBhlNvMSsThLk7gG0moXRB2Ulg+UGkFToChXZ4jNzGfK5Uh3Otc2FsdA==", "secret"},
		{"{PBKDF2}1000$yMnKy8zNzs/Q0dLT1NXW1w$hW5TrKAxwUv7/I/g5GAQ3AHaC3w", "secret"},
		{"{PBKDF2-SHA256}1000$yMnKy8zNzs/Q0dLT1NXW1w$h8ld7BqaMM2jZJKyKKdobNoIs3/KWd8cTW2pwojzAt4", "secret"},
		{"{PBKDF2-SHA512}1000$yMnKy8zNzs/Q0dLT1NXW1w$IOcMTb4yMjXIfLQ9oJNqi.oS7F9R5/VFihpi6siTs/PhpnWX1Q6ypMZeasmz95udsZKnRI95aOzCcYH9kosjWA", "secret"},
		{"{CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1", "Hello world!"},
		{"{crypt}$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.", "Hello world!"},
		{"{CRYPT}$6$rounds=1400$anotherlongsalts$88wPhYhQc1W2FPmTiGj7TzNgvNOnGRl8hvsV31IjYHhEK7zhRQqHiKGrXKBz/UYc1FewMBkoYQuNpO2qcXRAT0", long},
		{"{CRYPT}$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"},
		{"{CRYPT}$5$rounds=1500$abc$JJZ8RY1V/Ap031/Pk3GAeWCUXuC4K8hyaZWduzwPIp5", "Hello world!"},
		{"{CRYPT}$2b$05$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW", "Hello world!"},
	} {
		if !Check([]string{c.hash}, c.password) {
			t.Errorf("%.30s does not match", c.hash)
		}
		if Check([]string{c.hash}, c.password+"x") || Check([]string{c.hash}, "") {
			t.Errorf("%.30s matches another password", c.hash)
		}
		if !IsStale(c.hash) {
			t.Errorf("%.30s is as good as a new one", c.hash)
		}
	}
}

func TestHash(t *testing.T) {
	h := Hash("secret")
	if !strings.HasPrefix(h, "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$") || h == Hash("secret") || IsStale(h) {
		t.Errorf("%s", h)
	}
	for _, c := range []struct {
		stored   []string
		password string
		want     bool
	}{
		{[]string{h}, "secret", true},
		{[]string{h}, "Secret", false},
		{[]string{"{SSHA}broken", h}, "secret", true},
		{[]string{"secret"}, "secret", false},
		{nil, "secret", false},
		{[]string{""}, "", false},
	} {
		if got := Check(c.stored, c.password); got != c.want {
			t.Errorf("%.20q, %q: %v", c.stored, c.password, got)
		}
	}
}

// TestCostIsBounded: hashes that would take long are not computed.
func TestCostIsBounded(t *testing.T) {
	for _, h := range []string{
		"{PBKDF2-SHA256}99999999$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"{ARGON2ID}$argon2id$v=19$m=19456,t=17,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE",
		"{ARGON2ID}$argon2id$v=19$m=300000,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE",
		"{CRYPT}$6$rounds=999999999$salt$x", "{CRYPT}$6$rounds=-1$salt$x",
		"{CRYPT}$2b$31$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW", "{CRYPT}$2b$", "{CRYPT}$6$", "{CRYPT}", "{CRYPT}$5$$",
	} {
		if Check([]string{h}, "secret") {
			t.Errorf("%s matches", h)
		}
	}
}

func TestHashRandom(t *testing.T) {
	h := HashRandom("abcd-efgh")
	if h == HashRandom("abcd-efgh") || !Check([]string{h}, "abcd-efgh") || Check([]string{h}, "abcd-efgi") {
		t.Error(h)
	}
}

func TestIsHashed(t *testing.T) {
	for value, want := range map[string]bool{
		"{SSHA}x": true, "{argon2id}$": true, "{CRYPT}$6$": true, "secret": false, "{my}password": false, "{": false, "": false, "SSHA}x": false,
	} {
		if IsHashed(value) != want {
			t.Errorf("IsHashed(%q) is %v", value, !want)
		}
	}
}

// TestSCRAM is the example of RFC 7677 §3.
func TestSCRAM(t *testing.T) {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	s := DeriveSCRAM("pencil", salt, 4096)
	const nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	const message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=" + nonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=" + nonce
	if got := base64.StdEncoding.EncodeToString(mac(s.ServerKey, message)); got != "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" {
		t.Errorf("server signature %s", got)
	}
	proof, _ := base64.StdEncoding.DecodeString("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
	for i, b := range mac(s.StoredKey, message) {
		proof[i] ^= b // leaves the client key
	}
	if string(sha256Sum(proof)) != string(s.StoredKey) {
		t.Error("the client's proof does not lead to the stored key")
	}
	back, ok := ParseSCRAM(s.String())
	if !ok || back.String() != s.String() {
		t.Errorf("%s comes back as %s", s, back)
	}
	for _, text := range []string{"", "SCRAM-SHA-256$", "SCRAM-SHA-1$4096:c2FsdA==$eA==:eA==", "SCRAM-SHA-256$4096:c2FsdA==$eA==:eA==", "SCRAM-SHA-256$0" + s.String()[18:]} {
		if _, ok := ParseSCRAM(text); ok {
			t.Errorf("%q was read", text)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("{SSHA}FKOsvRGyvJmFtyBme/+y7/2fl6kwMTIzYWJjZA==")
	f.Add("{CRYPT}$6$rounds=1400$anotherlongsalts$88wPhYhQc1W2FPmTiGj7TzNgvNOnGRl8hvsV31IjYHhEK7zhRQqHiKGrXKBz")
	f.Add("{CRYPT}$2b$05$abcdefghijklmnopqrstuu7nFISH/8YdwlXD3lw69A4iBUf6fvWAW")
	f.Add("{ARGON2ID}$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE")
	f.Fuzz(func(t *testing.T, stored string) {
		Check([]string{stored}, "an unlikely password")
		if s, ok := ParseSCRAM(stored); ok {
			if back, ok := ParseSCRAM(s.String()); !ok || back.String() != s.String() {
				t.Errorf("%q comes back as %q", stored, back)
			}
		}
	})
}
