package daemon

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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

// Every key of a file with a secret is among those that are read first.
func TestSecretFilesAreAllKnown(t *testing.T) {
	var c config.Config
	var want []string
	fillSecrets(reflect.ValueOf(&c).Elem(), "", &want)
	c.Directory.BindDN = "cn=a"
	c.Roles = config.AllRoles()
	got := secretFiles(c)
	c.Roles = []config.Role{config.RoleMTA}
	for _, f := range secretFiles(c) {
		if !slices.Contains(got, f) {
			got = append(got, f)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Error("-keys of the configuration +known:", d)
	}
}

// fillSecrets sets each key that ends in _file to its own name, in one element
// of each list.
func fillSecrets(v reflect.Value, path string, all *[]string) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if key := v.Type().Field(i).Tag.Get("yaml"); key != "" {
				fillSecrets(v.Field(i), path+"."+key, all)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fillSecrets(v.Index(0), path, all)
		}
	case reflect.String:
		if strings.HasSuffix(path, "_file") {
			v.SetString(path)
			*all = append(*all, path)
		}
	}
}
