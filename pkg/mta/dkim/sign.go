package dkim

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-msgauth/dkim"

	"mailsrv/pkg/mail"
	"mailsrv/pkg/mta"
)

var _ mta.Signer = (*Keys)(nil)

// signed are the fields that a signature covers, each of those that must not
// be added later named once more than it should occur (RFC 6376 §5.4.2).
func signed() []string {
	return []string{
		"From", "From", "To", "To", "Cc", "Cc", "Subject", "Subject", "Date", "Date", "Message-ID", "Message-ID", "Reply-To", "Reply-To",
		"In-Reply-To", "In-Reply-To", "References", "References", "MIME-Version", "MIME-Version", "Content-Type", "Content-Type",
		"Content-Transfer-Encoding", "Content-Transfer-Encoding", "Sender", "Sender",
	}
}

// Sign implements mta.Signer: one signature for each key of the domain that is
// in use.
func (k *Keys) Sign(ctx context.Context, domain string, body mail.Body) ([]byte, error) {
	keys, err := k.inUse(domain)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	signers := make([]*dkim.Signer, 0, len(keys))
	writers := make([]io.Writer, 0, len(keys))
	for _, key := range keys {
		s, err := dkim.NewSigner(&dkim.SignOptions{Domain: domain, Selector: key.Selector, Signer: key.private,
			HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed, HeaderKeys: signed()})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("using key %s: %w", key.Selector, err), end(signers))
		}
		signers, writers = append(signers, s), append(writers, s)
	}
	err = copyBody(ctx, io.MultiWriter(writers...), body)
	if ended := end(signers); err == nil {
		err = ended
	}
	if err != nil {
		return nil, err
	}
	var head []byte
	for _, s := range signers {
		head = append(head, s.Signature()...)
	}
	return head, nil
}

// end ends every signer: each holds a goroutine until then.
func end(signers []*dkim.Signer) error {
	var errs []error
	for _, s := range signers {
		if err := s.Close(); err != nil {
			errs = append(errs, fmt.Errorf("signing: %w", err))
		}
	}
	return errors.Join(errs...)
}

func copyBody(ctx context.Context, w io.Writer, body mail.Body) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	rc, err := body.Open()
	if err != nil {
		return fmt.Errorf("opening the message: %w", err)
	}
	defer rc.Close()
	if _, err := io.Copy(w, rc); err != nil {
		return fmt.Errorf("reading the message: %w", err)
	}
	return nil
}
