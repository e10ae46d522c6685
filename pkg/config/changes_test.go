package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChanges(t *testing.T) {
	a, b := Default(), Default()
	if got := Changes(a, b); got != nil {
		t.Errorf("nothing changed, but %q", got)
	}
	b.Log.Level = "debug"
	b.MTA.Queue.Retry = append(b.MTA.Queue.Retry, 1)
	b.MTA.Checks.Trusted[0] = b.MTA.Checks.Trusted[1]
	b.Store.Quota.Messages = 7
	want := []string{"log.level", "store.quota.messages", "mta.checks.trusted", "mta.queue.retry"}
	if diff := cmp.Diff(want, Changes(a, b)); diff != "" {
		t.Error(diff)
	}
}
