package ldapclient_test

import (
	"crypto/sha512"
	"encoding/base64"
	"os"
	"strconv"
)

func itoa(i int) string { return strconv.Itoa(i) }

func syscallUID() int { return os.Getuid() }

// saltedSHA512 is a hash that costs little, so that tests measure LDAP.
func saltedSHA512(password string) string {
	const salt = "salt"
	sum := sha512.Sum512([]byte(password + salt))
	return "{SSHA512}" + base64.StdEncoding.EncodeToString(append(sum[:], salt...))
}
