package directory

import (
	"math"
	"testing"
)

// TestQuotaValues is mailQuota and mailMsgQuota of schema.md section 3, with the
// domain's for users who have none.
func TestQuotaValues(t *testing.T) {
	for _, x := range []struct {
		user, domain string // "" is absent
		want         int64
	}{
		{"", "", QuotaDefault},
		{"-2", "", QuotaDefault},
		{"-1", "", QuotaUnlimited},
		{"0", "", 0},
		{"1", "", 1},
		{"1000", "", 1000},
		{"1K", "", 1 << 10},
		{"2m", "", 2 << 20},
		{"3G", "", 3 << 30},
		{" 4G ", "", 4 << 30},
		{"0K", "", 0},
		{"9223372036854775807", "", math.MaxInt64},
		{"9223372036854775807G", "", math.MaxInt64},
		{"-3", "", QuotaDefault},
		{"1T", "", QuotaDefault},
		{"K", "", QuotaDefault},
		{"1.5G", "", QuotaDefault},
		{"lots", "", QuotaDefault},
		{"", "5M", 5 << 20},
		{"-2", "5M", 5 << 20},
		{"lots", "5M", 5 << 20},
		{"-1", "5M", QuotaUnlimited},
		{"0", "5M", 0},
		{"1K", "5M", 1 << 10},
		{"", "-1", QuotaUnlimited},
		{"", "0", 0},
		{"", "-2", QuotaDefault},
		{"1K", "-1", 1 << 10},
	} {
		for _, attribute := range []string{"mailQuota", "mailMsgQuota"} {
			who, of := entry(MustParseDN("uid=a,o=x")), entry(MustParseDN("o=x"))
			if x.user != "" {
				who = who.with(attribute, x.user)
			}
			if x.domain != "" {
				of = of.with(attribute, x.domain)
			}
			u := parseUser(who, parseDomain(of))
			got, other := u.Quota, u.MessageQuota
			if attribute == "mailMsgQuota" {
				got, other = other, got
			}
			if got != x.want || other != QuotaDefault {
				t.Errorf("%s %q in a domain with %q: %d, and the other %d; want %d", attribute, x.user, x.domain, got, other, x.want)
			}
		}
	}
}
