package mtasts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"mailsrv/pkg/mail"
)

// kept is a policy as it lies on disk.
type kept struct {
	ID      string
	Policy  Policy
	Fetched time.Time
	// Checked is when the DNS was asked last.
	Checked time.Time
}

// expires is when the policy is no longer in force; where there is none, that
// is known for as long as any answer serves.
func (k kept) expires() time.Time {
	if k.ID == "" {
		return k.Checked.Add(recheck)
	}
	return k.Fetched.Add(k.Policy.MaxAge)
}

// fetch asks the domain's own web server for its policy (RFC 8461 §3.3).
func (p *Policies) fetch(ctx context.Context, domain string) (Policy, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mta-sts."+domain+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return Policy{}, err
	}
	resp, err := p.o.Client.Do(req)
	if err != nil {
		return Policy{}, fmt.Errorf("fetching: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Policy{}, fmt.Errorf("fetching: the server answers %s", resp.Status)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return Policy{}, fmt.Errorf("fetching: the server answers with %.60q", resp.Header.Get("Content-Type"))
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxPolicy+1))
	if err != nil {
		return Policy{}, fmt.Errorf("fetching: %w", err)
	}
	if len(text) > maxPolicy {
		return Policy{}, fmt.Errorf("fetching: longer than %d bytes", maxPolicy)
	}
	policy, err := ParsePolicy(string(text))
	if err != nil {
		return Policy{}, fmt.Errorf("reading the policy: %w", err)
	}
	return policy, nil
}

// read returns what is on disk about a domain; a zero one if nothing is.
func (p *Policies) read(domain string) (kept, error) {
	path, err := p.path(domain)
	if err != nil {
		return kept{}, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, nil
	}
	if err != nil {
		return kept{}, fmt.Errorf("reading an MTA-STS policy: %w", err)
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return kept{}, fmt.Errorf("reading the MTA-STS policy %s (remove the file to have it fetched again): %w", path, err)
	}
	return k, nil
}

// write puts k on disk, whole or not at all, before it is first used.
func (p *Policies) write(domain string, k kept) error {
	path, err := p.path(domain)
	if err != nil {
		return err
	}
	text, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("writing an MTA-STS policy: %w", err)
	}
	f, err := os.CreateTemp(p.o.Dir, ".policy-*")
	if err != nil {
		return fmt.Errorf("writing an MTA-STS policy: %w", err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing an MTA-STS policy: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// path is a domain's file. Only what is a domain becomes a path.
func (p *Policies) path(domain string) (string, error) {
	d, err := mail.ParseDomain(domain)
	if err != nil || d != domain || d[0] == '[' {
		return "", fmt.Errorf("finding an MTA-STS policy: %q is no domain in lower-case A-labels", domain)
	}
	return filepath.Join(p.o.Dir, domain+".json"), nil
}
