package directory

import "testing"

func TestStoreLogin(t *testing.T) {
	u := User{UID: "alice", Domain: "example.test", Entry: Entry{Attributes: []Attribute{{Name: "employeeNumber", Values: []string{"4711"}}, {Name: "cn", Values: []string{"a\r\nb"}}}}}
	for template, want := range map[string]string{
		"":                    "alice@example.test",
		"%U":                  "alice",
		"%U@%V":               "alice@example.test",
		"%V/%U":               "example.test/alice",
		"x%A[employeenumber]": "x4711",
		"100%%":               "100%",
		"fixed":               "fixed",
		"%A[missing]":         "alice@example.test",
		"%A[":                 "alice@example.test",
		"%A]":                 "alice@example.test",
		"%X":                  "alice@example.test",
		"%":                   "alice@example.test",
		"%A[cn]":              "alice@example.test",
	} {
		u.Replay.Login = template
		if got := u.StoreLogin(); got != want {
			t.Errorf("%q: got %q, want %q", template, got, want)
		}
	}
}
