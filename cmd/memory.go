package cmd

import (
	"io/fs"
	"log/slog"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// boundMemory has the garbage collector keep below three quarters of what the
// service manager lets the process use, so that a flood of clients makes it
// collect more often instead of being killed. GOMEMLIMIT, if set, has the say.
func boundMemory(root fs.FS, log *slog.Logger) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit, ok := cgroupMemory(root); ok {
		debug.SetMemoryLimit(limit / 4 * 3)
		log.Info("memory bounded", "bytes", limit/4*3, "cgroup", limit)
	}
}

// cgroupMemory is the least memory.max, in bytes, of the process's control group
// (version 2) and those above it; false: there is no bound.
func cgroupMemory(root fs.FS) (limit int64, ok bool) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	_, group, ok := strings.Cut(string(groups), "0::/")
	if !ok {
		return 0, false
	}
	group, _, _ = strings.Cut(group, "\n")
	const top = "sys/fs/cgroup"
	ok = false
	for dir := path.Join(top, path.Clean("/"+group)); strings.HasPrefix(dir, top); dir = path.Dir(dir) {
		text, err := fs.ReadFile(root, dir+"/memory.max")
		if err != nil {
			continue // the topmost has none
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && (!ok || n < limit) {
			limit, ok = n, true
		}
	}
	return limit, ok
}
