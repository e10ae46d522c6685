package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"mailsrv/pkg/directory"
	"mailsrv/pkg/listen"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mmp"
	"mailsrv/pkg/mta"
	"mailsrv/pkg/mta/queue"
	"mailsrv/pkg/password"
)

// metrics counts at the seams: every role is observed where it is joined to
// another, and knows nothing of it.
type metrics struct {
	registry    *prometheus.Registry
	opened      *prometheus.CounterVec
	open        *prometheus.GaugeVec
	turned      *prometheus.CounterVec
	logins      *prometheus.CounterVec
	directories *prometheus.HistogramVec
	deliveries  *prometheus.HistogramVec
	messages    *prometheus.CounterVec
	stores      *prometheus.GaugeVec
	sessions    *prometheus.CounterVec
}

func newMetrics() *metrics {
	buckets := prometheus.ExponentialBuckets(0.0001, 4, 9) // 100 microseconds to 6.5 s
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		opened:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailsrv_connections_total", Help: "Connections accepted."}, []string{"door"}),
		open:        prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mailsrv_connections_open", Help: "Connections open now."}, []string{"door"}),
		turned:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailsrv_connections_refused_total", Help: "Connections refused or displaced by a limit."}, []string{"door"}),
		logins:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailsrv_logins_total", Help: "Logins by outcome."}, []string{"role", "mechanism", "outcome"}),
		directories: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "mailsrv_directory_seconds", Help: "Questions to the directory.", Buckets: buckets}, []string{"role", "operation", "outcome"}),
		deliveries:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "mailsrv_delivery_seconds", Help: "Deliveries, by where to and the worst outcome.", Buckets: buckets}, []string{"to", "outcome"}),
		messages:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailsrv_messages_total", Help: "Messages accepted and refused; recipients stored, queued, and delivered, deferred or failed by the queue's attempts."}, []string{"outcome"}),
		sessions:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mailsrv_sessions_total", Help: "Sessions of logged-in clients that the store was handed."}, []string{"service"}),
	}
	m.stores = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mailsrv_store_up", Help: "Whether the MMP reaches a store elsewhere: 0 is shut out."}, []string{"host", "service"})
	m.registry.MustRegister(m.turned, m.stores, m.opened, m.open, m.logins, m.directories, m.deliveries, m.messages, m.sessions, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) connections(door string) (opened, closed, refused func()) {
	total, open := m.opened.WithLabelValues(door), m.open.WithLabelValues(door)
	return func() { total.Inc(); open.Inc() }, open.Dec, m.turned.WithLabelValues(door).Inc
}

// health observes one protocol of a store elsewhere; it is up until it fails.
func (m *metrics) health(host string, protocol directory.Service) func(up bool) {
	gauge := m.stores.WithLabelValues(host, string(protocol))
	gauge.Set(1)
	return func(up bool) {
		gauge.Set(0)
		if up {
			gauge.Set(1)
		}
	}
}

func (m *metrics) login(role string) func(mechanism, outcome string) {
	return func(mechanism, outcome string) { m.logins.WithLabelValues(role, mechanism, outcome).Inc() }
}

func (m *metrics) accepted(o mta.Outcome) {
	m.messages.WithLabelValues("accepted").Inc()
	m.messages.WithLabelValues("stored").Add(float64(o.Stored))
	m.messages.WithLabelValues("queued").Add(float64(o.Queued))
}

// attempted counts what the queue's attempts came to.
func (m *metrics) attempted(o queue.Outcome) {
	m.messages.WithLabelValues("delivered").Add(float64(o.Delivered))
	m.messages.WithLabelValues("deferred").Add(float64(o.Deferred))
	m.messages.WithLabelValues("failed").Add(float64(o.Failed))
}

func (m *metrics) refused(s *mail.Status) {
	m.messages.WithLabelValues("refused " + strconv.Itoa(s.Code/100) + "xx").Inc()
}

// backend counts the sessions that the store is handed, by whichever front.
func (m *metrics) backend(service directory.Service, b mmp.Backend) mmp.Backend {
	return &observedBackend{b, m.sessions.WithLabelValues(string(service))}
}

type observedBackend struct {
	mmp.Backend
	sessions prometheus.Counter
}

// Attach implements mmp.Backend.
func (o *observedBackend) Attach(ctx context.Context, h *mmp.Handover) error {
	o.sessions.Inc()
	return o.Backend.Attach(ctx, h)
}

// deliverer observes one way a message goes.
func (m *metrics) deliverer(to string, d mail.Deliverer) mail.Deliverer {
	return &observedDeliverer{d, to, m}
}

// stored logs what the store took in process, or did not, as lmtpserver does
// for what comes from elsewhere.
type stored struct {
	mail.Deliverer
	log *slog.Logger
}

// Deliver implements mail.Deliverer.
func (s *stored) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	start := time.Now()
	errs := s.Deliverer.Deliver(ctx, env, body)
	for i, r := range env.To {
		log := s.log.With("trace", string(env.Trace), "from", env.From.String(), "to", r.Address.String(), "mailbox", r.Mailbox, "bytes", body.Size(), "duration", time.Since(start))
		if errs[i] != nil {
			log.Info("message not stored", "err", errs[i])
			continue
		}
		log.Info("message stored")
	}
	return errs
}

type observedDeliverer struct {
	mail.Deliverer
	to      string
	metrics *metrics
}

// Deliver implements mail.Deliverer.
func (o *observedDeliverer) Deliver(ctx context.Context, env mail.Envelope, body mail.Body) []error {
	start := time.Now()
	errs := o.Deliverer.Deliver(ctx, env, body)
	outcome := "ok"
	for _, err := range errs {
		if _, ok := errors.AsType[*mta.Handed](err); ok {
			continue
		}
		if mail.IsPermanent(err) {
			outcome = "refused"
		} else if err != nil {
			outcome = "deferred"
			break
		}
	}
	o.metrics.deliveries.WithLabelValues(o.to, outcome).Observe(time.Since(start).Seconds())
	return errs
}

// observed is the mail view as one role asks it.
type observed struct {
	*directory.View
	role    string
	metrics *metrics
	log     *slog.Logger
}

func (o *observed) done(operation, about string, start time.Time, err error) {
	outcome := "ok"
	switch {
	case errors.Is(err, directory.ErrNotFound), errors.Is(err, directory.ErrBadCredentials):
		outcome = "no"
	case err != nil:
		outcome = "failed"
	}
	took := time.Since(start)
	o.metrics.directories.WithLabelValues(o.role, operation, outcome).Observe(took.Seconds())
	o.log.Debug("directory asked", "operation", operation, "about", about, "outcome", outcome, "duration", took)
}

// Domain implements directory.Directory.
func (o *observed) Domain(ctx context.Context, name string) (d directory.Domain, err error) {
	defer func(t time.Time) { o.done("domain", name, t, err) }(time.Now())
	return o.View.Domain(ctx, name)
}

// Recipient implements directory.Directory.
func (o *observed) Recipient(ctx context.Context, a mail.Address) (r directory.Recipient, err error) {
	defer func(t time.Time) { o.done("recipient", a.String(), t, err) }(time.Now())
	return o.View.Recipient(ctx, a)
}

// Member implements directory.Directory.
func (o *observed) Member(ctx context.Context, dn directory.DN) (r directory.Recipient, err error) {
	defer func(t time.Time) { o.done("member", dn.String(), t, err) }(time.Now())
	return o.View.Member(ctx, dn)
}

// User implements directory.Directory.
func (o *observed) User(ctx context.Context, login string) (u directory.User, err error) {
	defer func(t time.Time) { o.done("user", login, t, err) }(time.Now())
	return o.View.User(ctx, login)
}

// Verify implements directory.Directory.
func (o *observed) Verify(ctx context.Context, login, password string) (u directory.User, err error) {
	defer func(t time.Time) { o.done("verify", login, t, err) }(time.Now())
	return o.View.Verify(ctx, login, password)
}

// VerifyFor implements directory.ServiceVerifier.
func (o *observed) VerifyFor(ctx context.Context, login, password string, s directory.Service) (u directory.User, err error) {
	defer func(t time.Time) { o.done("verify", login, t, err) }(time.Now())
	return o.View.VerifyFor(ctx, login, password, s)
}

// SCRAM implements directory.SCRAMSecrets.
func (o *observed) SCRAM(ctx context.Context, login string) (u directory.User, s password.SCRAM, err error) {
	defer func(t time.Time) { o.done("scram", login, t, err) }(time.Now())
	return o.View.SCRAM(ctx, login)
}

// adminDoor serves /metrics, /healthz (what runs in this process) and /readyz (and
// what it needs elsewhere).
func (d *daemon) adminDoor() door {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", d.health(true))
	mux.HandleFunc("GET /readyz", d.health(false))
	if d.cfg.Admin.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return door{name: "admin", listen: d.cfg.Admin.Listen, options: listen.Options{Limits: listen.Limits{Total: 50}}, serve: func(ctx context.Context, conn net.Conn) {
		s := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}
		_ = s.Serve(&oneConn{ctx: ctx, conn: conn})
	}}
}

// oneConn is a listener of one connection: listen.Serve accepts for HTTP too.
type oneConn struct {
	ctx  context.Context
	conn net.Conn
	once sync.Once
}

// Accept returns the connection, and then waits until it is closed.
func (o *oneConn) Accept() (c net.Conn, err error) {
	o.once.Do(func() { c = &closing{Conn: o.conn, done: make(chan struct{})} })
	if c != nil {
		o.conn = c
		return c, nil
	}
	select {
	case <-o.conn.(*closing).done:
	case <-o.ctx.Done():
		o.conn.Close()
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (o *oneConn) Close() error { return nil }

// Addr implements net.Listener.
func (o *oneConn) Addr() net.Addr { return o.conn.LocalAddr() }

type closing struct {
	net.Conn
	once sync.Once
	done chan struct{}
}

// Close implements net.Conn.
func (c *closing) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}
