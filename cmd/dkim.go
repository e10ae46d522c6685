package cmd

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mailsrv/pkg/daemon"
	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta/dkim"
)

// signing is what the dkim commands share.
type signing struct {
	admin
	unpublished bool
}

func newDKIMCommand() *cobra.Command {
	var s signing
	c := s.parent("dkim", "Make and rotate the keys that sign our domains' mail")
	c.Long = `Keys live in the data folder of the host that runs the mta role; run these
commands there, as the server's own user. To begin signing, or to rotate keys:

  1. mailsrv dkim make DOMAIN       makes two keys and prints their DNS records
  2. publish the records
  3. mailsrv dkim activate DOMAIN   signs with them from now on, and retires the old ones
  4. a week later: mailsrv dkim remove DOMAIN SELECTOR, and take the old records out of the DNS`
	activate := &cobra.Command{Use: "activate DOMAIN", Short: "Sign with the keys that wait, and retire those in use", Args: exactly("domain"), RunE: s.run(s.activate)}
	activate.Flags().BoolVar(&s.unpublished, "unpublished", false, "do not ask the DNS whether the records are there")
	c.AddCommand(
		&cobra.Command{Use: "make DOMAIN", Short: "Make an RSA and an Ed25519 key, and print their DNS records", Args: exactly("domain"), RunE: s.run(s.make)},
		activate,
		&cobra.Command{Use: "list", Short: "List the keys of all domains", Args: exactly(), RunE: s.run(s.list)},
		&cobra.Command{Use: "records DOMAIN", Short: "Print the DNS records of a domain's keys, as lines of a zone file", Args: exactly("domain"), RunE: s.run(s.records)},
		&cobra.Command{Use: "remove DOMAIN SELECTOR", Short: "Delete a key for good", Args: exactly("domain", "selector"), RunE: s.run(s.remove)},
	)
	return c
}

// run opens the keys and runs one command; domain is args[0] in A-labels, if there is one.
func (s *signing) run(fn func(ctx context.Context, keys *dkim.Keys, args []string, out io.Writer) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		cfg, err := s.config.load()
		if err != nil {
			return err
		}
		keys, err := daemon.Keys(cfg)
		if err != nil {
			return err
		}
		if len(args) > 0 {
			if args[0], err = mail.ParseDomain(args[0]); err != nil {
				return err
			}
		}
		return fn(c.Context(), keys, args, c.OutOrStdout())
	}
}

func (s *signing) make(_ context.Context, keys *dkim.Keys, args []string, out io.Writer) error {
	made, err := keys.Make(args[0], time.Now())
	if err != nil {
		return err
	}
	if err := s.print(out, made); err != nil || s.json {
		return err
	}
	fmt.Fprintf(out, "\nPublish these records, then run: mailsrv dkim activate %s\n", args[0])
	return nil
}

func (s *signing) activate(ctx context.Context, keys *dkim.Keys, args []string, out io.Writer) error {
	list, err := keys.List(args[0])
	if err != nil {
		return err
	}
	cfg, err := s.config.load()
	if err != nil {
		return err
	}
	for _, k := range list {
		if k.State != dkim.Waiting || s.unpublished {
			continue
		}
		ok, err := k.Published(ctx, daemon.Resolver(cfg).LookupTXT)
		if err != nil {
			return fmt.Errorf("%w (--unpublished activates all the same)", err)
		}
		if !ok {
			return fmt.Errorf("key %s is not published yet; see: mailsrv dkim records %s (--unpublished activates all the same)", k.Selector, args[0])
		}
	}
	if err := keys.Activate(args[0]); err != nil {
		return fmt.Errorf("%w; make keys first: mailsrv dkim make %s", err, args[0])
	}
	fmt.Fprintf(out, "mail from %s is signed with its new keys from now on\n", args[0])
	return nil
}

func (s *signing) list(_ context.Context, keys *dkim.Keys, _ []string, out io.Writer) error {
	domains, err := keys.Domains()
	if err != nil {
		return err
	}
	states := map[dkim.State]string{dkim.Waiting: "waiting", dkim.InUse: "in use", dkim.Retired: "retired"}
	var rows [][]string
	for _, d := range domains {
		list, err := keys.List(d)
		if err != nil {
			return err
		}
		for _, k := range list {
			rows = append(rows, []string{d, k.Selector, k.Algorithm, states[k.State], k.Made.Local().Format(time.DateTime)})
		}
	}
	return s.table(out, []string{"DOMAIN", "SELECTOR", "ALGORITHM", "STATE", "MADE"}, rows)
}

func (s *signing) records(_ context.Context, keys *dkim.Keys, args []string, out io.Writer) error {
	list, err := keys.List(args[0])
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("%s has no keys; make some: mailsrv dkim make %s", args[0], args[0])
	}
	return s.print(out, list)
}

func (s *signing) remove(_ context.Context, keys *dkim.Keys, args []string, out io.Writer) error {
	if err := keys.Remove(args[0], args[1]); err != nil {
		return err
	}
	fmt.Fprintf(out, "key %s of %s removed\n", args[1], args[0])
	return nil
}

// print shows records as a zone file has them, each string of at most 255 bytes.
func (s *signing) print(out io.Writer, list []dkim.Key) error {
	var rows [][]string
	for _, k := range list {
		name, value, err := k.Record()
		if err != nil {
			return err
		}
		rows = append(rows, []string{name, value})
	}
	if s.json {
		return s.table(out, []string{"NAME", "VALUE"}, rows)
	}
	for _, r := range rows {
		var parts []string
		for v := r[1]; v != ""; {
			n := min(len(v), 255)
			parts, v = append(parts, `"`+v[:n]+`"`), v[n:]
		}
		fmt.Fprintf(out, "%s. IN TXT ( %s )\n", r[0], strings.Join(parts, "\n\t"))
	}
	return nil
}
