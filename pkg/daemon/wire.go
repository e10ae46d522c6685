package daemon

import (
	"context"

	"mailsrv/pkg/config"
)

// Limits of the doors to strangers (hardening.md section 3).
const (
	smtpPerIP    = 20
	mailboxPerIP = 50
	perDoor      = 1000
)

// build makes every role and opens every listener, in the order in which they start.
func (d *daemon) build(ctx context.Context) error {
	admin := stage{role: "admin", tasks: []func(context.Context) error{d.watchdog}}
	if err := d.open(ctx, &admin, d.adminDoor()); err != nil {
		return err
	}
	d.stages = append(d.stages, admin)
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
