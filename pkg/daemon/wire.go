package daemon

import (
	"context"

	"mailsrv/pkg/config"
	"mailsrv/pkg/listen"
)

// limited adds a door's limits, and what it says to those over them.
func limited(o listen.Options, l config.Limit, busy string) listen.Options {
	o.Limits = listen.Limits{PerAddress: l.PerAddress, PerNetwork: l.PerNetwork, PerMinute: l.PerMinute, Total: l.Total, Displace: true}
	o.Busy = busy
	return o
}

// build makes every role and opens every listener, in the order in which they start.
func (d *daemon) build(ctx context.Context) error {
	admin := stage{role: "admin", tasks: []func(context.Context) error{d.watchdog, returnMemory}}
	if err := d.open(ctx, &admin, d.adminDoor()); err != nil {
		return err
	}
	d.stages = append(d.stages, admin)
	if err := d.openJournal(ctx); err != nil {
		return err
	}
	tree, err := d.tree(ctx)
	if err != nil {
		return err
	}
	var st *storeRole
	if d.cfg.Runs(config.RoleStore) {
		if st, err = d.store(ctx, tree); err != nil {
			return err
		}
	}
	if d.cfg.Runs(config.RoleMTA) {
		if err := d.mta(ctx, tree, st); err != nil {
			return err
		}
	}
	if d.cfg.Runs(config.RoleMMP) {
		return d.mmp(ctx, tree, st)
	}
	return nil
}
