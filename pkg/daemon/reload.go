package daemon

import (
	"log/slog"
	"os"
	"slices"
	"strings"

	"mailsrv/pkg/config"
)

// Reload is how Run hears that its configuration has changed.
type Reload struct {
	// Signals makes it look, each time something comes.
	Signals <-chan os.Signal
	// Load reads the configuration anew, with what the command line puts over it.
	Load func() (config.Config, error)
	// Level is the level of Options.Log; it follows log.level.
	Level *slog.LevelVar
}

// reload takes over what can change while the roles run, which is the log's
// level and the certificates, and says what cannot. A faulty file, or a
// certificate that cannot be read, changes nothing.
func (d *daemon) reload(r Reload) {
	cfg, err := r.Load()
	if err != nil {
		d.log.Error("reload failed, all stays as it was", "err", err)
		return
	}
	if d.certificate != nil {
		if err := d.certificate.Reload(); err != nil {
			d.log.Error("reload failed, all stays as it was", "err", err)
			return
		}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		d.log.Error("reload failed, all stays as it was", "err", err)
		return
	}
	changed := config.Changes(d.cfg, cfg)
	wants := slices.DeleteFunc(slices.Clone(changed), func(key string) bool { return key == "log.level" })
	r.Level.Set(level)
	d.cfg.Log.Level = cfg.Log.Level
	log := d.log.With("changed", strings.Join(changed, " "))
	if len(wants) > 0 {
		log.Warn("configuration reloaded, but some settings take effect at the next start only", "restart", strings.Join(wants, " "))
		return
	}
	log.Info("configuration reloaded")
}
