package ldif

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readAll(text string) ([]Record, error) {
	r := NewReader(strings.NewReader(text))
	var out []Record
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, rec)
	}
}

func TestRead(t *testing.T) {
	above := "o=y"
	got, err := readAll("version: 1\n# a comment\n  that goes on\ndn: uid=a,\n o=x\nobjectClass: top\nobjectclass: person\ncn:: w6Q=\r\nsn:  b\ndescription:\n\n\n" +
		"dn:: bz14\nchangetype: delete\n\n" +
		"dn: o=x\nchangetype: modify\nadd: mail\nmail: a@x\nmail: b@x\n-\ndelete: sn\n-\nincrement: uidNumber\nuidNumber: 1\n\n" +
		"dn: o=x\nchangetype: modrdn\nnewrdn: o=z\ndeleteoldrdn: 1\nnewsuperior: o=y\n")
	want := []Record{
		{Line: 4, DN: "uid=a,o=x", Attributes: []Attribute{{"objectClass", []string{"top", "person"}}, {"cn", []string{"ä"}}, {"sn", []string{"b"}}, {"description", []string{""}}}},
		{Line: 13, DN: "o=x", Type: Delete},
		{Line: 16, DN: "o=x", Type: Modify, Changes: []Change{{0, Attribute{"mail", []string{"a@x", "b@x"}}}, {1, Attribute{Name: "sn"}}, {3, Attribute{"uidNumber", []string{"1"}}}}},
		{Line: 27, DN: "o=x", Type: ModDN, NewRDN: "o=z", DeleteOld: true, Superior: &above},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
}

func TestRefuse(t *testing.T) {
	for text, at := range map[string]string{
		"version: 2\n\ndn: o=x\no: x\n":     "line 1",
		"o: x\n":                            "line 1",
		"dn: o=x\n":                         "line 1",
		"dn: o=x\no x\n":                    "line 2",
		"dn: o=x\no:: !\n":                  "line 2",
		"dn: o=x\no:< file:///etc/passwd\n": "line 2",
		"dn: o=x\ncontrol: 1.2.3\nchangetype: delete\n":                              "line 2",
		"dn: o=x\nchangetype: explode\n":                                             "line 1",
		"dn: o=x\nchangetype: delete\no: x\n":                                        "line 3",
		"dn: o=x\nchangetype: modify\n":                                              "line 1",
		"dn: o=x\nchangetype: modify\nadd: o\nmail: x\n":                             "line 4",
		"dn: o=x\nchangetype: modrdn\nnewrdn: o=y\n":                                 "line 1",
		"dn: o=x\no: x\n-\n":                                                         "line 3",
		"dn: o=x\no: " + strings.Repeat("x", maxLine) + "\n":                         "line 2",
		"dn: o=x\no: x\n" + strings.Repeat(" "+strings.Repeat("y", 1000)+"\n", 2000): "line 2",
	} {
		if _, err := readAll(text); !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), at) {
			t.Errorf("%.40q: %v, want %s", text, err, at)
		}
	}
}

// FuzzReader: no text does harm, and entries that are written come back.
func FuzzReader(f *testing.F) {
	f.Add("version: 1\ndn: uid=a,\n o=x\ncn:: w6Q=\nsn: b\n")
	f.Add("dn: o=x\nchangetype: modify\nadd: mail\nmail: a@x\n-\n")
	f.Add("dn: o=x\nchangetype: modrdn\nnewrdn: o=z\ndeleteoldrdn: 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		records, _ := readAll(text)
		var b bytes.Buffer
		w := NewWriter(&b)
		var want []Record
		for _, r := range records {
			if r.Type != Content && r.Type != Add || strings.EqualFold(r.Attributes[0].Name, "changetype") || strings.EqualFold(r.Attributes[0].Name, "control") {
				continue
			}
			if err := w.Entry(r.DN, r.Attributes); err != nil {
				t.Fatal(err)
			}
			want = append(want, Record{DN: r.DN, Attributes: r.Attributes})
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(b.String())
		for i := range got {
			got[i].Line = 0
		}
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%v\n%s\n%s", err, b.String(), d)
		}
	})
}
