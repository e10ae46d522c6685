package cmd

import (
	"testing"
	"testing/fstest"
)

func TestCgroupMemory(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  int64 // 0: no bound
	}{
		{"no such system", nil, 0},
		{"version 1", map[string]string{"proc/self/cgroup": "4:memory:/user\n", "sys/fs/cgroup/memory.max": "1000"}, 0},
		{"no bound", map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 0},
		{"its own", map[string]string{"proc/self/cgroup": "0::/system.slice/mailsrv.service\n",
			"sys/fs/cgroup/system.slice/mailsrv.service/memory.max": "536870912\n"}, 536870912},
		{"that above it is less", map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "3000\n", "sys/fs/cgroup/a/memory.max": "2000\n"}, 2000},
		{"that above it is more", map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "3000\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 3000},
		{"within a container", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "4000\n"}, 4000},
		{"a path that leads out", map[string]string{"proc/self/cgroup": "0::/../../etc\n", "sys/fs/cgroup/memory.max": "4000\n", "etc/memory.max": "1\n"}, 4000},
		{"nonsense", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "much\n"}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range tt.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			got, ok := cgroupMemory(root)
			if got != tt.want || ok != (tt.want != 0) {
				t.Errorf("%d, %v, want %d", got, ok, tt.want)
			}
		})
	}
}
