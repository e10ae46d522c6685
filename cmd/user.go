package cmd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"mailsrv/pkg/directory"
)

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
			return a.told(out, args[0], "added", "user "+args[0]+" added", made)
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
			return a.told(out, args[0], "password set", "password of "+args[0]+" set", made)
		})}
	passwd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	c.AddCommand(add, passwd, newAppPasswordCommand(&a), newMoveCommand(&a), newMovesCommand(&a), a.set("LOGIN@DOMAIN"), a.remove("LOGIN@DOMAIN", (*directory.Provisioner).DeleteUser), a.list(false), a.show())
	return c
}

// password reads the first line of standard input, or makes one, which is then
// to be told.
func password(stdin bool) (p, made string, err error) {
	if !stdin {
		p = randomPassword()
		return p, p, nil
	}
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", "", errors.New("no password on standard input")
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return line, "", err
}
