package daemon

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"mailsrv/pkg/config"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/dkim"
	"mailsrv/pkg/mta/dmarc"
	"mailsrv/pkg/mta/dnsbl"
	"mailsrv/pkg/mta/dnscache"
	"mailsrv/pkg/mta/greylist"
	"mailsrv/pkg/mta/iprev"
	"mailsrv/pkg/mta/milter"
	"mailsrv/pkg/mta/rate"
	"mailsrv/pkg/mta/spf"
)

// checks are the opinions about a message, in the order in which they cost;
// DMARC weighs what SPF and DKIM found before it.
func (d *daemon) checks(ctx context.Context) ([]mta.Check, error) {
	c := d.cfg.MTA.Checks
	dns := Resolver(d.cfg)
	log := d.messageLog(config.RoleMTA)
	checks := []mta.Check{rate.New(rate.Options{Log: log,
		Limits: rate.Limits{Hourly: c.Rate.LoginHourly, Daily: c.Rate.LoginDaily, Minute: c.Rate.StrangerMinute, Sender: c.Rate.SenderMinute}})}
	if len(c.DNSBL) > 0 {
		o := dnsbl.Options{Resolver: dns, Log: log}
		for _, l := range c.DNSBL {
			o.Lists = append(o.Lists, dnsbl.List{Zone: l.Zone, Action: dnsbl.Action(l.Action)})
		}
		checks = append(checks, dnsbl.New(o))
	}
	if c.ReverseDNS != "off" || c.Helo != "off" {
		checks = append(checks, iprev.New(iprev.Options{Reverse: iprev.Action(c.ReverseDNS), Helo: iprev.Action(c.Helo), Hostname: d.cfg.Hostname, Resolver: dns}))
	}
	if c.Greylist.Enabled {
		g, err := greylist.Open(ctx, greylist.Options{Path: filepath.Join(d.cfg.Data, "greylist.db"), Wait: time.Duration(c.Greylist.Wait),
			OnFatal: d.onFatal, Log: log})
		if err != nil {
			return nil, err
		}
		d.closers = append(d.closers, g.Close)
		checks = append(checks, g)
	}
	cached := dnscache.New(dns, 0, 0)
	if c.SPF {
		checks = append(checks, spf.New(spf.Options{Resolver: cached}))
	}
	if c.DKIM {
		checks = append(checks, dkim.NewCheck(cached.LookupTXT))
	}
	if c.ARC {
		checks = append(checks, dkim.NewChain(cached.LookupTXT))
	}
	if c.DMARC != "off" {
		checks = append(checks, dmarc.New(dmarc.Options{Resolver: cached, Obedience: dmarc.Obedience(c.DMARC)}))
	}
	for _, m := range c.Milters {
		o := milter.Options{Network: "tcp", Address: m.Address, Open: m.OnFailure == "accept", Log: log}
		if path, ok := strings.CutPrefix(m.Address, "unix:"); ok {
			o.Network, o.Address = "unix", path
		}
		checks = append(checks, milter.New(o))
	}
	return checks, nil
}
