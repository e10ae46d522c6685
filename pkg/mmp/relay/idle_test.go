package relay

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

var (
	idleSessions = flag.Int("idle.sessions", 300, "how many sessions TestIdleSessions holds; each takes four descriptors")
	idleHold     = flag.Duration("idle.hold", 0, "how long it holds them")
)

// TestIdleSessions holds many sessions at rest, and then each is answered. They
// must cost little while they rest.
func TestIdleSessions(t *testing.T) {
	address := benchStore(t)
	r := New(Options{Address: address, Authcid: "mmp", Secret: "s3cret"})
	memory := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := memory()
	clients := make([]net.Conn, *idleSessions)
	for i := range clients {
		clients[i] = benchClient(t, r, address, true)
	}
	// Both ends and the store are in this process, so that each session is
	// counted with its client and its store.
	if each := float64(memory()-before) / float64(len(clients)); each > 48<<10 {
		t.Errorf("a session at rest costs %.0f KiB", each/1024)
	} else {
		t.Logf("%d sessions at rest, %.1f KiB each with their clients and stores", len(clients), each/1024)
	}
	<-time.After(*idleHold)
	var answered sync.WaitGroup
	for i, c := range clients {
		answered.Go(func() {
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			if _, err := fmt.Fprint(c, "n NOOP\r\n"); err != nil {
				t.Errorf("session %d: %v", i, err)
				return
			}
			if line, err := bufio.NewReaderSize(c, 64).ReadString('\n'); err != nil || line != "n OK done\r\n" {
				t.Errorf("session %d: %q, %v", i, line, err)
			}
		})
	}
	answered.Wait()
}
