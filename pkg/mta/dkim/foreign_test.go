package dkim_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailsrv/pkg/peertest"
)

// verifyScript verifies a message by dkimpy: argv is zone.json; the message is
// the input.
const verifyScript = `
import dkim, json, sys
zone = json.load(open(sys.argv[1]))
def dns(name, timeout=5):
    return zone.get(name.decode().rstrip("."), "").encode()
message = sys.stdin.buffer.read()
d = dkim.DKIM(message)
n = message.count(b"DKIM-Signature:")
print("dkim", [d.verify(idx=i, dnsfunc=dns) for i in range(n)])
cv, results, reason = dkim.arc_verify(message, dnsfunc=dns)
print("arc", cv.decode(), reason)
`

// signScript signs and seals the message by dkimpy: argv is key.pem.
const signScript = `
import dkim, sys
key = open(sys.argv[1], "rb").read()
message = sys.stdin.buffer.read()
signed = dkim.sign(message, b"sel", b"py.test", key, canonicalize=(b"relaxed", b"simple")) + message
signed = b"Authentication-Results: mx.py.test; spf=pass smtp.mfrom=far.test\r\n" + signed
seal = dkim.arc_sign(signed, b"sel", b"py.test", key, b"mx.py.test")
sys.stdout.buffer.write(b"".join(seal) + signed)
`

// python runs a script by Debian's own interpreter, which has dkimpy.
func python(t *testing.T, script, stdin string, args ...string) string {
	t.Helper()
	peertest.Program(t, "dkimverify", "python3-dkim, and python3-authres")
	return peertest.Client(t, stdin, "/usr/bin/python3", append([]string{"-c", script}, args...)...)
}

func TestForeignVerifierOfChains(t *testing.T) {
	keys, z := sealers(t)
	text := sealedBy(t, keys, "us.example", sign(t, keys, message))
	text = sealedBy(t, keys, "far.test", "Received: from us.example\r\n"+text)
	published, err := json.Marshal(z)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "zone.json")
	if err := os.WriteFile(path, published, 0o600); err != nil {
		t.Fatal(err)
	}
	got := python(t, verifyScript, text, path)
	if !strings.Contains(got, "dkim [True, True]") || !strings.Contains(got, "arc pass") {
		t.Errorf("dkimpy says:\n%s", got)
	}
}

func TestForeignSigner(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	z := zone{"sel._domainkey.py.test": "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)}
	path := filepath.Join(t.TempDir(), "key.pem")
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(path, private, 0o600); err != nil {
		t.Fatal(err)
	}
	text := python(t, signScript, message, path)
	if got := judge(t, z, text); len(got) != 1 || got[0] != "pass py.test" {
		t.Errorf("dkim: %q", got)
	}
	if got := chain(t, z, text); got != "pass py.test" {
		t.Errorf("arc: %q", got)
	}
	if got := chain(t, z, strings.Replace(text, "hello", "hullo", 1)); !strings.HasPrefix(got, "fail") {
		t.Errorf("changed: %q", got)
	}
}
