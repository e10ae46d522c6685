package queue

import (
	"flag"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/mail"
)

var rewrite = flag.Bool("update", false, "write the expected files anew")

func TestReports(t *testing.T) {
	arrived := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	at := arrived.Add(5 * time.Hour)
	row := func(to, status string) recipientRow {
		return recipientRow{Recipient: mail.Recipient{Address: address(t, to)}, status: status, tried: at, waited: 4 * time.Hour}
	}
	evil := row("a@far.test", "550 5.1.1 mx said: no\r\nX-Evil: 1\x00 \xff ü "+strings.Repeat("long ", 200))
	evil.ORCPT = "rfc822;old@far.test"
	tests := []struct {
		name, action, from, ret, envid, text string
		rows                                 []recipientRow
	}{
		{name: "failed", action: "failed", from: "s@us.example", text: letter,
			rows: []recipientRow{row("a@far.test", "550 5.1.1 mx.far.test said: 550 no such user"), row(`"b c"@far.test`, "554 5.4.7 gave up after 60 attempts, the last: 451 4.4.1 no connection")}},
		{name: "delayed", action: "delayed", from: "s@us.example", envid: "order 66\r\nX: y", text: letter, rows: []recipientRow{row("a@far.test", "451 4.4.1 no connection")}},
		{name: "delivered", action: "delivered", from: "s@us.example", text: letter, rows: []recipientRow{row("a@us.example", "250 2.1.5 delivered")}},
		{name: "relayed", action: "relayed", from: "s@us.example", text: letter, rows: []recipientRow{row("a@far.test", "250 2.1.5 relayed")}},
		{name: "full", action: "failed", from: "s@us.example", ret: "FULL", text: strings.ReplaceAll(letter, "hello", "grüße"), rows: []recipientRow{row("a@far.test", "550 5.0.0 no")}},
		{name: "utf8", action: "failed", from: "grün@us.example", ret: "HDRS", text: "Subject: grün\r\n\r\nx\r\n", rows: []recipientRow{row("süß@far.test", "550 5.6.7 mx said: kein ü")}},
		{name: "hostile", action: "failed", from: `"s> x"@us.example`, text: "Message-ID: <a b>\r\nfrom nowhere", rows: []recipientRow{evil}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := readOriginal(mail.Bytes(tt.text), tt.ret == "FULL")
			if err != nil {
				t.Fatal(err)
			}
			r := report{action: tt.action, rows: tt.rows, original: o, hostname: "mx.us.example", at: at,
				trace: "00000000000000000000000000", retryFor: 5 * 24 * time.Hour}
			r.entry = entryRow{env: mail.Envelope{From: address(t, tt.from), EnvID: tt.envid}, arrived: arrived}
			got := string(r.append(nil))
			file := filepath.Join("testdata", "dsn", tt.name+".eml")
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
			if strings.Contains(strings.ReplaceAll(got, "\r\n", ""), "\r") || strings.Contains(strings.ReplaceAll(got, "\r\n", ""), "\n") {
				t.Error("a bare CR or LF")
			}
			checkReport(t, got)
		})
	}
}

// checkReport reads the report with somebody else's parser.
func checkReport(t *testing.T, text string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Errorf("content type %s %v, %v", kind, params, err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	n := 0
	for ; ; n++ {
		p, err := parts.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, p); err != nil {
			t.Fatal(err)
		}
	}
	if n != 3 {
		t.Errorf("%d parts, want 3", n)
	}
}
