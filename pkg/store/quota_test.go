package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/store"
)

func TestQuotaCrossed(t *testing.T) {
	tests := []struct {
		q        store.Quota
		from, to store.Usage
		want     int
	}{
		{store.Quota{Bytes: 1000, Messages: -1}, store.Usage{Bytes: 799}, store.Usage{Bytes: 800}, 80},
		{store.Quota{Bytes: 1000, Messages: -1}, store.Usage{Bytes: 800}, store.Usage{Bytes: 899}, 0},
		{store.Quota{Bytes: 1000, Messages: -1}, store.Usage{Bytes: 10}, store.Usage{Bytes: 1000}, 95},
		{store.Quota{Bytes: 1000, Messages: -1}, store.Usage{Bytes: 1000}, store.Usage{Bytes: 10}, 0},
		{store.Quota{Bytes: -1, Messages: 10}, store.Usage{Messages: 7}, store.Usage{Messages: 8}, 80},
		{store.NoQuota(), store.Usage{}, store.Usage{Bytes: 1 << 40, Messages: 1 << 30}, 0},
		{store.Quota{}, store.Usage{}, store.Usage{Bytes: 1}, 0},
	}
	for _, tt := range tests {
		if got := tt.q.Crossed(tt.from, tt.to, []int{80, 95}); got != tt.want {
			t.Errorf("%+v from %+v to %+v: %d, want %d", tt.q, tt.from, tt.to, got, tt.want)
		}
	}
}

func TestWarnIsNotHeldUpByTheQuota(t *testing.T) {
	e := &engine{}
	d := store.NewDeliverer(e, users{}, store.NoQuota())
	w := store.QuotaWarning{Account: "a@example.test", Percent: 80, Usage: store.Usage{Bytes: 800, Messages: 8}, Quota: store.Quota{Bytes: 1000, Messages: -1}}
	if err := d.Warn(t.Context(), w, "mail.test", time.Now()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.Target{{Account: "a@example.test", Quota: store.NoQuota()}}, e.got); diff != "" {
		t.Error(diff)
	}
}

// TestOverQuotaByPolicy: the domain's administrator chooses between "later" and "no".
func TestOverQuotaByPolicy(t *testing.T) {
	full := map[string]error{"a@example.test": store.ErrOverQuota}
	for reject, want := range map[bool]string{false: "452 4.2.2 mailbox full", true: "552 5.2.2 mailbox full"} {
		d := store.NewDeliverer(&engine{errs: full}, users{}, store.Quota{Bytes: 1000, Messages: -1, Reject: reject})
		if got := replies(d.Deliver(t.Context(), mail.Envelope{To: addressed("a")}, make(mail.Bytes, 100))); got[0] != want {
			t.Errorf("%v: %s, want %s", reject, got[0], want)
		}
	}
}

// TestQuotaOf: what neither the entry nor its domain says, the store does.
func TestQuotaOf(t *testing.T) {
	defaults := store.Quota{Bytes: 1000, Messages: 10, Reject: true}
	for _, x := range []struct{ bytes, messages, wantBytes, wantMessages int64 }{
		{directory.QuotaDefault, directory.QuotaDefault, 1000, 10},
		{directory.QuotaUnlimited, directory.QuotaDefault, -1, 10},
		{directory.QuotaDefault, directory.QuotaUnlimited, 1000, -1},
		{0, 0, 0, 0},
		{5, 7, 5, 7},
	} {
		got := store.QuotaOf(directory.User{Quota: x.bytes, MessageQuota: x.messages}, defaults)
		if want := (store.Quota{Bytes: x.wantBytes, Messages: x.wantMessages, Reject: true}); got != want {
			t.Errorf("%d, %d: %+v, want %+v", x.bytes, x.messages, got, want)
		}
	}
}

// TestWarnOfNobody: a domain's shared mailboxes have no INBOX to write to.
func TestWarnOfNobody(t *testing.T) {
	e := &engine{}
	err := store.NewDeliverer(e, users{}, store.NoQuota()).Warn(t.Context(), store.QuotaWarning{Account: "+shared@example.test", Percent: 80}, "h", time.Now())
	if err == nil || e.calls != 0 {
		t.Errorf("%v, %d deliveries", err, e.calls)
	}
}
