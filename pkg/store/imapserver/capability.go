package imapserver

import (
	"fmt"
	"strings"

	"mailsrv/pkg/store"
	"mailsrv/pkg/wire/imapwire"
)

// capabilities is the one list of what this server can do. A word belongs here
// only if all that its RFC demands of a server works.
func capabilities(o Options) string {
	sharing := ""
	if _, shares := o.Store.(store.Sharer); shares {
		sharing = " ACL RIGHTS=" + store.NewRights + // RFC 4314
			" LIST-MYRIGHTS" // RFC 8440
		if _, annotates := o.Store.(store.Annotator); annotates {
			sharing += " METADATA METADATA-SERVER" + // RFC 5464
				" LIST-METADATA" // RFC 9590
		}
	}
	return "IMAP4rev1 IMAP4rev2" + // RFC 3501, RFC 9051
		" LITERAL+" + // RFC 7888; it says more than the LITERAL- of IMAP4rev2
		" SASL-IR" + // RFC 4959; the front's doing
		" ID" + // RFC 2971
		" ENABLE" + // RFC 5161
		" IDLE" + // RFC 2177
		" NAMESPACE" + // RFC 2342
		" CHILDREN" + // RFC 3348
		" UIDPLUS" + // RFC 4315
		" UNSELECT" + // RFC 3691
		" MOVE" + // RFC 6851
		" MULTIAPPEND" + // RFC 3502
		" CATENATE" + // RFC 4469
		" REPLACE" + // RFC 8508
		" COMPRESS=DEFLATE" + // RFC 4978
		" QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE" + // RFC 9208
		" PREVIEW" + // RFC 8970
		" BINARY" + // RFC 3516
		" UTF8=ACCEPT" + // RFC 6855
		" CONDSTORE QRESYNC" + // RFC 7162
		" ESEARCH" + // RFC 4731
		" SEARCHRES" + // RFC 5182
		" SORT SORT=DISPLAY" + // RFC 5256, RFC 5957
		" ESORT" + // RFC 5267
		" THREAD=ORDEREDSUBJECT THREAD=REFERENCES" + // RFC 5256
		" PARTIAL" + // RFC 9394
		" UIDONLY" + // RFC 9586
		" INPROGRESS" + // RFC 9585
		" MULTISEARCH" + // RFC 7377
		" NOTIFY" + // RFC 5465
		" WITHIN" + // RFC 5032
		" SAVEDATE" + // RFC 8514
		" OBJECTID" + // RFC 8474
		" LIST-EXTENDED" + // RFC 5258
		" LIST-STATUS" + // RFC 5819
		" SPECIAL-USE CREATE-SPECIAL-USE" + // RFC 6154
		" STATUS=SIZE" + // RFC 8438
		sharing +
		fmt.Sprintf(" APPENDLIMIT=%d", o.MaxMessage) // RFC 7889
}

func (c *session) capability(cmd *imapwire.Command) error {
	if err := cmd.Args.End(); err != nil {
		return bad(err)
	}
	c.conn.WriteString("* CAPABILITY " + c.srv.capability + "\r\n")
	return nil
}

// Capabilities lists what a session can do, for the fronts to announce.
func (s *Server) Capabilities() []string { return strings.Fields(s.capability) }
