package schema

import "testing"

func TestDN(t *testing.T) {
	for in, want := range map[string]string{
		"uid=a,o=b": "uid=a,o=b", " UID = A\\, B , O=c": "uid=a\\, b,o=c", "b=2+a=1,o=x": "a=1+b=2,o=x", `cn=\41`: "cn=a", "": "",
	} {
		dn, err := ParseDN(in)
		if err != nil || dn.Normal() != want {
			t.Errorf("%q: %q %v, want %q", in, dn.Normal(), err, want)
		}
	}
	for _, bad := range []string{"a", "=x", "a=", "a=b,", `a=\g`, "a=#00", `a="x"`} {
		if dn, err := ParseDN(bad); err == nil {
			t.Errorf("%q is read as %q", bad, dn)
		}
	}
	child, parent := MustParseDN("uid=a,ou=b,o=c"), MustParseDN("OU=B,o=C")
	if !child.Under(parent) || parent.Under(child) || !child.Parent().Equal(parent) || child.Child("x", "y").String() != "x=y,uid=a,ou=b,o=c" {
		t.Error("ancestry")
	}
}

func FuzzParseDN(f *testing.F) {
	for _, s := range []string{"uid=a,o=b", `cn=\2c\,x+sn=y , o=z`, "a=\x00", `a=\ff`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		dn, err := ParseDN(s)
		if err != nil {
			return
		}
		again, err := ParseDN(dn.String())
		if err != nil || !again.Equal(dn) {
			t.Fatalf("%q came back from %q as %q: %v", dn.String(), s, again, err)
		}
	})
}
