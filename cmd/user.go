package cmd

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mailsrv/pkg/config"
	"mailsrv/pkg/daemon"
	"mailsrv/pkg/directory"
	"mailsrv/pkg/mail"
)

// openProvisioner connects to the running directory over LDAP.
func openProvisioner(ctx context.Context, c config.Config) (*directory.Provisioner, func(), error) {
	client, err := daemon.Dial(ctx, c)
	if err != nil {
		return nil, nil, fmt.Errorf("reaching the directory (does mailsrv serve run?): %w", err)
	}
	view, err := daemon.View(c)
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	return directory.NewProvisioner(client, view), func() { client.Close() }, nil
}

// admin holds what the commands on the directory share.
type admin struct {
	config configFlag
	json   bool
}

func (a *admin) parent(use, short string) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	a.config.add(c)
	c.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	return c
}

// run connects and runs one command.
func (a *admin) run(fn func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		cfg, err := a.config.load()
		if err != nil {
			return err
		}
		p, done, err := openProvisioner(c.Context(), cfg)
		if err != nil {
			return err
		}
		defer done()
		return fn(c.Context(), p, args, c.OutOrStdout())
	}
}

// table prints rows for eyes, or as JSON objects named by the lower-case heads.
func (a *admin) table(out io.Writer, heads []string, rows [][]string) error {
	if a.json {
		list := make([]map[string]string, len(rows))
		for i, r := range rows {
			list[i] = map[string]string{}
			for j, h := range heads {
				list[i][strings.ToLower(h)] = r[j]
			}
		}
		return printJSON(out, list)
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(heads, "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

func newUserCommand() *cobra.Command {
	var a admin
	c := a.parent("user", "Make, show and change users")
	var name, mailHost string
	var stdin bool
	add := &cobra.Command{Use: "add LOGIN@DOMAIN", Short: "Make a user; prints a random password unless --password-stdin", Args: exactly("login"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			password, made, err := password(stdin)
			if err != nil {
				return err
			}
			if err := p.AddUser(ctx, args[0], name, password, mailHost); err != nil {
				return err
			}
			return told(out, "user "+args[0]+" added", password, made)
		})}
	add.Flags().StringVar(&name, "name", "", "the user's name")
	add.Flags().StringVar(&mailHost, "mailhost", "", "host of the user's store (default: the domain's)")
	add.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	passwd := &cobra.Command{Use: "passwd LOGIN@DOMAIN", Short: "Set a user's password; prints a random one unless --password-stdin", Args: exactly("login"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			password, made, err := password(stdin)
			if err != nil {
				return err
			}
			if err := p.SetPassword(ctx, args[0], password); err != nil {
				return err
			}
			return told(out, "password of "+args[0]+" set", password, made)
		})}
	passwd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	c.AddCommand(add, passwd, newAppPasswordCommand(&a), a.set("LOGIN@DOMAIN"), a.remove("LOGIN@DOMAIN", (*directory.Provisioner).DeleteUser), a.list(false), a.show())
	return c
}

func newGroupCommand() *cobra.Command {
	var a admin
	c := a.parent("group", "Make, show and change groups")
	c.AddCommand(
		&cobra.Command{Use: "add ADDRESS MEMBER...", Short: "Make a group of users, groups and external addresses", Args: cobra.MinimumNArgs(2),
			RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
				if err := p.AddGroup(ctx, args[0], args[1:]); err != nil {
					return err
				}
				return told(out, "group "+args[0]+" added", "", false)
			})},
		a.set("ADDRESS"), a.remove("ADDRESS", (*directory.Provisioner).DeleteGroup), a.list(true), a.show())
	return c
}

func newAliasCommand() *cobra.Command {
	var a admin
	c := a.parent("alias", "Give users, groups and domains further names")
	c.AddCommand(
		&cobra.Command{Use: "add ALIAS TARGET", Short: "Let ALIAS, an address or a domain, lead to TARGET", Args: exactly("alias", "target"),
			RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
				if err := p.AddAlias(ctx, args[0], args[1]); err != nil {
					return err
				}
				return told(out, args[0]+" now leads to "+args[1], "", false)
			})},
		a.remove("ALIAS", (*directory.Provisioner).DeleteAlias),
		&cobra.Command{Use: "list", Short: "List all aliases", Args: exactly(),
			RunE: a.run(func(ctx context.Context, p *directory.Provisioner, _ []string, out io.Writer) error {
				domains, err := p.Domains(ctx)
				if err != nil {
					return err
				}
				recipients, err := p.Recipients(ctx, "")
				return errors.Join(err, a.table(out, []string{"ALIAS", "TARGET"}, aliasRows(domains, recipients)))
			})})
	return c
}

// aliasRows are the further names of domains, users and groups, and the groups
// of one member, which is what alias add makes for a target elsewhere.
func aliasRows(domains []directory.Domain, recipients []directory.Recipient) [][]string {
	var rows [][]string
	for _, d := range domains {
		for _, alias := range d.Aliases {
			rows = append(rows, []string{alias, d.Name})
		}
	}
	addresses := map[string]string{} // of users and groups, by DN
	for _, r := range recipients {
		addresses[r.DN().String()] = r.Address().String()
	}
	for _, r := range recipients {
		var names []mail.Address
		if u := r.User; u != nil {
			names = slices.Concat(u.Alternates, u.Equivalents)
		} else if g := r.Group; g != nil {
			names = slices.Concat(g.Alternates, g.Equivalents)
			switch {
			case len(g.Members)+len(g.External) != 1:
			case len(g.External) == 1:
				rows = append(rows, []string{g.Mail.String(), g.External[0].String()})
			default:
				dn := g.Members[0].String()
				rows = append(rows, []string{g.Mail.String(), cmp.Or(addresses[dn], dn)})
			}
		}
		for _, alias := range names {
			rows = append(rows, []string{alias.String(), r.Address().String()})
		}
	}
	return rows
}

func newDomainCommand() *cobra.Command {
	var a admin
	c := a.parent("domain", "Make, show and change domains")
	var mailHost string
	add := &cobra.Command{Use: "add DOMAIN", Short: "Make a domain", Args: exactly("domain"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			if err := p.AddDomain(ctx, args[0], mailHost); err != nil {
				return err
			}
			return told(out, "domain "+args[0]+" added", "", false)
		})}
	add.Flags().StringVar(&mailHost, "mailhost", "", "host of the store of new users")
	list := &cobra.Command{Use: "list", Short: "List the domains", Args: exactly(),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, _ []string, out io.Writer) error {
			domains, err := p.Domains(ctx)
			var rows [][]string
			for _, d := range domains {
				rows = append(rows, []string{d.Name, string(d.Status), d.MailHost, strings.Join(d.Aliases, ",")})
			}
			return errors.Join(err, a.table(out, []string{"DOMAIN", "STATUS", "MAILHOST", "ALIASES"}, rows))
		})}
	c.AddCommand(add, a.set("DOMAIN"), a.remove("DOMAIN", (*directory.Provisioner).DeleteDomain), list)
	return c
}

func (a *admin) set(what string) *cobra.Command {
	return &cobra.Command{Use: "set " + what + " NAME=VALUE...", Short: "Change settings, such as quota=2G or status=inactive", Args: cobra.MinimumNArgs(2),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			if err := p.Set(ctx, args[0], args[1:]); err != nil {
				return err
			}
			return told(out, args[0]+" changed", "", false)
		})}
}

func (a *admin) remove(what string, fn func(*directory.Provisioner, context.Context, string) error) *cobra.Command {
	return &cobra.Command{Use: "delete " + what, Short: "Delete it from the directory", Args: exactly("name"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			if err := fn(p, ctx, args[0]); err != nil {
				return err
			}
			return told(out, args[0]+" deleted", "", false)
		})}
}

func (a *admin) list(groups bool) *cobra.Command {
	return &cobra.Command{Use: "list [DOMAIN]", Short: "List them, of one domain or of all", Args: cobra.MaximumNArgs(1),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			domain := strings.Join(args, "")
			recipients, err := p.Recipients(ctx, domain)
			var rows [][]string
			for _, r := range recipients {
				if groups && r.Group != nil {
					rows = append(rows, []string{r.Group.Mail.String(), string(r.Group.Status), strconv.Itoa(len(r.Group.Members) + len(r.Group.External))})
				} else if !groups && r.User != nil {
					rows = append(rows, []string{r.User.Account(), r.User.Name, string(r.User.Status), r.User.MailHost, quotaText(r.User.Quota)})
				}
			}
			heads := []string{"USER", "NAME", "STATUS", "MAILHOST", "QUOTA"}
			if groups {
				heads = []string{"GROUP", "STATUS", "MEMBERS"}
			}
			return errors.Join(err, a.table(out, heads, rows))
		})}
}

func (a *admin) show() *cobra.Command {
	return &cobra.Command{Use: "show ADDRESS", Short: "Show one of them", Args: exactly("address"),
		RunE: a.run(func(ctx context.Context, p *directory.Provisioner, args []string, out io.Writer) error {
			address, err := mail.ParseAddress(args[0])
			if err != nil {
				return usageError{err}
			}
			r, err := p.Recipient(ctx, address)
			if err != nil {
				return err
			}
			rows := [][]string{{"dn", r.DN().String()}, {"mail", r.Address().String()}}
			if u := r.User; u != nil {
				rows = append(rows, []string{"name", u.Name}, []string{"status", string(u.Status)}, []string{"mailhost", u.MailHost},
					[]string{"quota", quotaText(u.Quota)}, []string{"delivery", strings.Join(u.DeliveryOptions, ",")}, []string{"aliases", joined(u.Alternates)},
					[]string{"forward", joined(u.ForwardTo)})
			} else {
				for _, m := range r.Group.Members {
					rows = append(rows, []string{"member", m.String()})
				}
				rows = append(rows, []string{"external", joined(r.Group.External)}, []string{"status", string(r.Group.Status)})
			}
			return a.table(out, []string{"ATTRIBUTE", "VALUE"}, rows)
		})}
}

func joined(addresses []mail.Address) string {
	var s []string
	for _, a := range addresses {
		s = append(s, a.String())
	}
	return strings.Join(s, ",")
}

func quotaText(q int64) string {
	switch {
	case q == directory.QuotaDefault:
		return "default"
	case q == directory.QuotaUnlimited:
		return "none"
	case q >= 1<<30 && q%(1<<30) == 0:
		return strconv.FormatInt(q>>30, 10) + " GiB"
	case q >= 1<<20 && q%(1<<20) == 0:
		return strconv.FormatInt(q>>20, 10) + " MiB"
	}
	return strconv.FormatInt(q, 10) + " B"
}

// password reads the first line of standard input, or makes one.
func password(stdin bool) (p string, made bool, err error) {
	if !stdin {
		return randomPassword(), true, nil
	}
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", false, errors.New("no password on standard input")
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return line, false, err
}

func told(out io.Writer, what, password string, made bool) error {
	if made {
		what += "; password: " + password
	}
	_, err := fmt.Fprintln(out, what)
	return err
}
