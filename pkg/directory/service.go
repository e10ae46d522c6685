package directory

// Service is what a client wants to use, as mailAllowedServiceAccess spells it
// (schema.md section 3).
type Service string

// The services. The s forms are meant for TLS from the first byte; a STARTTLS
// session counts as the plain name.
const (
	ServiceIMAP  Service = "imap"
	ServiceIMAPS Service = "imaps"
	ServicePOP3  Service = "pop"
	ServicePOP3S Service = "pops"
	ServiceSMTP  Service = "smtp"
	ServiceSMTPS Service = "smtps"
)

// OverTLS is the name of a plain service with TLS from the first byte.
func (s Service) OverTLS() Service { return s + "s" }
