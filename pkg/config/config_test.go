package config

import (
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestExampleIsDefault(t *testing.T) {
	b, err := os.ReadFile("../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// A small office gets a certificate first: the example says where.
	text := strings.NewReplacer(`  cert: ""`, "  cert: /c", `  key: ""`, "  key: /k").Replace(string(b))
	got, err := Parse("config.example.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.TLS, want.Hostname = TLS{Cert: "/c", Key: "/k"}, got.Hostname
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Error("the example differs from the defaults:", d)
	}
	for _, key := range keys(reflect.TypeFor[Config]()) {
		if !strings.Contains(text, key+":") {
			t.Errorf("config.example.yaml does not show the key %s", key)
		}
	}
}

// keys lists the YAML keys of a struct and of those in it.
func keys(t reflect.Type) (out []string) {
	for t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" {
			out = append(append(out, key), keys(t.Field(i).Type)...)
		}
	}
	return out
}

func TestFaultsAreAllReported(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"unknown keys":  {"data: /d\nmta:\n  max_mesage: 1M\n  port: 25\nstore:\n  bogus: 1\n", []string{"f:3:3:", "max_mesage", "f:6:3:", "bogus"}},
		"wrong types":   {"grace: soon\nmta:\n  max_recipients: many\n  port: 25\n", []string{"f:1:8:", "soon", "f:3:19:"}},
		"bad addresses": {"mta:\n  smtp:\n    listen: [nonsense]\ntls: {cert: /c, key: /k}\ndata: relative\n", []string{"f:3:14:", "nonsense", "f:5:7:", "relative"}},
		"missing":       {"roles: [mta]\ntls: {cert: /c, key: /k}\n", []string{"directory.url", "mta.stores"}},
		"restless queue": {"mta: {port: 0, queue: {retry: [5m, 0s], concurrency: 0, per_destination: 0, lifetime: 0s}}\ntls: {cert: /c, key: /k}\n",
			[]string{"f:1:13:", "mta.queue.retry[1]", "mta.queue.concurrency", "mta.queue.per_destination", "mta.queue.lifetime"}},
		"no secrets": {"tls: {cert: /c, key: /k}\nstore:\n  proxies: [{name: mmp}]\nmmp:\n  stores: [{host: a, address: \"a:143\", tls: none}]\ndirectory: {services: [{dn: cn=s}], bind_dn: cn=b}\nmta: {smart_host: {address: \"h:25\", tls: starttls, username: u}}\n",
			[]string{"store.proxies[0]", "mmp.stores[0]", "directory.services[0]", "directory.bind_dn", "mta.smart_host.username"}},
		"profiles for all": {"admin: {pprof: true, listen: [\"127.0.0.1:9925\", \":9926\", \"[::1]:9927\", \"192.0.2.1:9928\"]}\ntls: {cert: /c, key: /k}\n",
			[]string{"admin.listen[1]: \":9926\"", "admin.listen[3]: \"192.0.2.1:9928\""}},
		"deep, side by side and on one line": {"log: {level: loud}\nhostname: 5\nmta:\n  sent: {mailboxx: \"\", enabled: perhaps}\n  queue:\n    retry: [5m, bad]\n    lifetime: x\n    foo: 1\n" +
			"limits: {smtp: {total: many, per_minute: -1}}\nstore: {lmtp: {trusted: [10.0.0.0/33]}}\ntls: {cert: /c, key: /k}\n",
			[]string{"f:1:14: log.level", "f:2:11: hostname: is the number 5 and not text", "f:4:10: unknown field \"mailboxx\"", "f:4:33: mta.sent.enabled: is \"perhaps\" and neither true nor false", "f:6:17: mta.queue.retry[1]: bad duration \"bad\"",
				"f:7:15: mta.queue.lifetime: bad duration \"x\"", "f:8:5: unknown field \"foo\"", "f:9:24: limits.smtp.total: is \"many\" and not a whole number", "f:9:42: limits.smtp.per_minute: ", "f:10:26: store.lmtp.trusted[0]: is \"10.0.0.0/33\" and not a network"}},
		"foreign":    {"tls: {cert: /c, key: /k}\ndirectory: {verify: maybe, foreign: {preset: other}}\n", []string{"f:2:21: directory.verify: ", "f:2:46: directory.foreign.preset: \"other\""}},
		"no mailbox": {"tls: {cert: /c, key: /k}\nmta: {sent: {mailbox: \"\"}}\n", []string{"f:2:23: mta.sent.mailbox: "}},
		"twice":      {"tls: {cert: /c, key: /k}\nmta: {port: 25}\nmta: {port: 26}\nbogus: 1\n", []string{"f:3:1: the key \"mta\" stands twice", "f:4:1: unknown field"}},
		"kinds":      {"tls: [a]\nroles: mta\nmta: 5\nstore: {hosts: {a: b}, quota: {bytes: [1]}, imap: {listen: }}\n", []string{"f:1:6: tls: is a list and not a section", "f:2:8: roles: is \"mta\" and not a list", "f:3:6: mta: is the number 5", "f:4:16: store.hosts: is a section", "f:4:39: store.quota.bytes: is a list", "f:4:59: store.imap.listen: is empty"}},
		"names":      {"tls: {cert: /c, key: /k}\ndirectory: {suffix: mail, bind_dn: \"x\", default_domain: \"a b\", services: [{dn: foo, password_file: /p}]}\n", []string{"f:2:21: directory.suffix: \"mail\"", "directory.bind_dn: \"x\"", "directory.default_domain", "directory.services[0].dn"}},
		"documents":  {"tls: {cert: /c, key: /k}\n---\nmta: {}\n", []string{"f:3:4: a second document"}},
		"no YAML":    {"a: [b\n", []string{"f:1:"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f", []byte(c.text))
			if err == nil {
				t.Fatal("no fault found")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in:\n%v", w, err)
				}
			}
		})
	}
}

// What is wrong or missing because of another fault is not told beside it.
func TestFaultsAreToldOnce(t *testing.T) {
	for text, want := range map[string]string{
		"tls: {crt: /c, key: /k}\n":                            "f:1:7: unknown field \"crt\"",
		"tls: {cert: /c, key: 7}\n":                            "f:1:22: tls.key: is the number 7 and not text; put it in quotes, or leave the key out",
		"tls: {cert: /c, key: /k}\nmta: {queue: {retry: 5}}\n": "f:2:22: mta.queue.retry: is the number 5 and not a list; write [a, b], or [] for none",
		"roles: [directory]\ndirectory: {pol: 1}\n":            "f:2:13: unknown field \"pol\"",
		"roles: [mta]\nmta:\n  stores: [{host: a, address: \"a:24\", tls: none}]\ndirectory:\n  urls: [\"ldap://a\"]\ntls: {cert: /c, key: /k}\n": "f:5:3: unknown field \"urls\"",
	} {
		if _, err := Parse("f", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: got\n%v\nwant\n%s", text, err, want)
		}
	}
}

func TestAnchorsAndMerges(t *testing.T) {
	c, err := Parse("f", []byte("tls: {cert: /c, key: /k}\nlimits:\n  smtp: &few {total: 7, per_minute: 3}\n  mailbox: *few\n  ldap: {<<: *few, total: 8}\nmta:\n  smart_host:\nstore:\n  # nothing\n"))
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Limits; l.Mailbox.Total != 7 || l.LDAP.Total != 8 || l.LDAP.PerMinute != 3 || l.LDAP.PerAddress != 100 {
		t.Errorf("%+v", l)
	}
	if _, err := Parse("f", []byte("limits: {smtp: &x {<<: *x, <<: *x, <<: *x, total: many}}\n")); err == nil {
		t.Error("a section merged into itself is taken")
	}
	if _, err := Parse("f", []byte("roles: &r [*r]\nhostname: *none\n")); err == nil {
		t.Error("aliases of themselves and of nothing are taken")
	}
}

func TestFaultsAreInOneOrder(t *testing.T) {
	text := []byte("mta: {smtp: {listen: [a]}, submission: {listen: [b]}}\nmmp: {imap: {listen: [c]}}\nadmin: {listen: [d]}\n")
	_, first := Parse("f", text)
	for range 20 {
		if _, err := Parse("f", text); err.Error() != first.Error() {
			t.Fatalf("once\n%v\nand once\n%v", first, err)
		}
	}
}

func TestUnits(t *testing.T) {
	c, err := Parse("f", []byte("roles: [store]\ndirectory: {url: [\"ldap://x\"]}\nstore: {quota: {bytes: 2G, messages: 5}, max_message: -1}\ngrace: 2d\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Store.Quota.Bytes != 2<<30 || c.Store.Quota.Messages != 5 || c.Store.MaxMessage != -1 || c.Grace != Duration(48*3600e9) {
		t.Errorf("%+v %v", c.Store, c.Grace)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("roles: [mta]\n"))
	f.Add([]byte("mta: {queue: {retry: [1m, 2d]}}\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = Parse("f", b) })
}
