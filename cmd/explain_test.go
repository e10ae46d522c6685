package cmd

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestExplain runs the command against a running directory.
func TestExplain(t *testing.T) {
	i := newInstall(t)
	config := i.file("all.yaml", i.common("all", "directory, mta")+fmt.Sprintf(`
directory: {default_domain: example.test}
mta: {smtp: {listen: ["127.0.0.1:%d"]}, submission: {listen: []}, submissions: {listen: []}, stores: [{host: localhost, address: "127.0.0.1:24", tls: none}]}
`, ports(t, 1)...))
	i.serve(config)
	i.run("domain", "add", "example.test", "--config", config)
	i.run("user", "add", "alice@example.test", "--config", config)
	text := i.run("explain", "alice@example.test", "--from", "s@far.test", "--config", config)
	for _, want := range []string{
		"(mail=alice@example.test)", "-> uid=alice,ou=People,o=example.test,o=mail", "mailHost: localhost",
		"alice@example.test: delivered to mailbox INBOX in the store localhost",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	var x explanation
	text = i.run("explain", "alice@example.test", "--what-if", "mailDomainStatus=hold", "--json", "--config", config)
	if err := json.Unmarshal([]byte(text), &x); err != nil || len(x.Effects) != 1 || x.Effects[0] != "alice@example.test: kept in the queue: mailbox is on hold" {
		t.Errorf("%v, %+v", err, x)
	}
	out, err := i.command("explain", "alice@example.test", "--service", "imap", "--ip", "192.0.2.1", "--what-if", "mailAllowedServiceAccess=+imap:10.0.0.0/8", "--config", config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "login refused: service access refuses imap from 192.0.2.1") {
		t.Errorf("%v: %s", err, out)
	}
}
