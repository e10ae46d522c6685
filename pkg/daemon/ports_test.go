package daemon

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailsrv/pkg/config"
)

// The last port that is opened is taken: nothing is made on disk, and the log
// says nothing beside the error.
func TestTakenPortChangesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := config.Default()
	free, none := config.Listeners{"127.0.0.1:0"}, config.Listeners{}
	c.Hostname, c.Data, c.Admin.Listen = "localhost", filepath.Join(t.TempDir(), "data"), free
	c.Directory.Listen.LDAP = free
	c.MTA.SMTP.Listen, c.MTA.Submission.Listen, c.MTA.Submissions.Listen = free, free, none
	c.MMP.IMAP, c.MMP.POP3 = config.Door{Listen: free}, config.Door{Listen: config.Listeners{taken.Addr().String()}}
	var log bytes.Buffer
	err = Run(t.Context(), Options{Config: c, Log: slog.New(slog.NewTextHandler(&log, nil)), Ready: func(map[string]string) { t.Error("it serves") }})
	if err == nil || !strings.HasPrefix(err.Error(), "opening pop3: ") || !strings.Contains(err.Error(), "taken by another program") {
		t.Errorf("the error: %v", err)
	}
	if log.Len() != 0 {
		t.Errorf("the log: %s", log.String())
	}
	if _, err := os.Stat(c.Data); !os.IsNotExist(err) {
		t.Errorf("the data folder was made: %v", err)
	}
}
