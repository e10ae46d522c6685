package cmd

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailsrv/pkg/daemon"
	"mailsrv/pkg/journal"
)

// traceSum is a message's way in short.
type traceSum struct {
	from, to, messageID string
	outcome             string
}

// summed says in short who a message is from and for, and what became of it.
func summed(m daemon.Traced) (s traceSum) {
	var to []string
	waiting, done, failed, refused := 0, map[string]bool{}, 0, ""
	for _, e := range m.Events {
		a := e.About
		if from, ok := a["from"]; ok && s.from == "" {
			s.from = from
		}
		s.messageID = cmp.Or(s.messageID, a["message_id"])
		switch e.Event {
		case "message accepted":
			s.to = a["to"]
		case "message stored", "message handed over", "message taken by a store", "recipient refused", "message deferred", "message failed":
			if !slices.Contains(to, a["to"]) {
				to = append(to, a["to"])
			}
		}
		switch e.Event {
		case "message stored", "message taken by a store":
			done[a["to"]+a["mailbox"]] = true
		case "message delivered":
			done[a["to"]+a["account"]+a["mailbox"]] = true
		case "message failed":
			failed++
		case "message refused", "sender refused", "recipient refused":
			refused = a["err"]
		}
	}
	s.to = cmp.Or(s.to, strings.Join(to, " "))
	for _, e := range m.Queue {
		for _, r := range e.Recipients {
			if r.State == "pending" || r.State == "held" {
				waiting++
			}
		}
	}
	switch {
	case waiting > 0:
		s.outcome = fmt.Sprintf("%s still in the queue; see: mailsrv queue show %d", count(waiting, "recipient"), m.Queue[0].ID)
	case failed > 0:
		s.outcome = count(failed, "recipient") + " failed for good"
	case len(done) > 0:
		s.outcome = "delivered"
	case refused != "":
		s.outcome = "refused: " + refused
	default:
		s.outcome = "nothing waits in the queue"
	}
	return s
}

// sentence tells one event to a person.
func sentence(e journal.Event) string {
	a := e.About
	switch e.Event {
	case "domain decided":
		return domainSentence(a)
	case "sender refused":
		return "refused the sender <" + a["from"] + ">: " + a["err"] + client(a)
	case "recipient refused":
		return "refused the recipient " + a["to"] + ": " + a["err"] + client(a)
	case "message refused":
		return "refused the message (" + size(a["bytes"]) + "): " + a["err"] + client(a)
	case "message accepted":
		return acceptedSentence(a)
	case "recipient not stored now":
		return "could not give it to the store " + a["host"] + " for " + a["to"] + ": " + a["err"]
	case "sender's copy refused":
		return "the sender's own copy was refused by the store " + a["host"] + ": " + a["err"]
	case "sender's copy not made":
		return "made no copy for the sender " + a["account"] + ": " + cmp.Or(a["err"], "no store of ours has that account")
	case "message stored":
		return "put it into " + mailbox(a) + " of " + a["to"]
	case "message not stored":
		return "could not put it into " + mailbox(a) + " of " + a["to"] + ": " + a["err"]
	case "message queued":
		return "put it into the queue as entry " + a["queue_id"] + ", for " + number(a["recipients"], "recipient")
	case "recipient expanded":
		return "found where " + a["to"] + " leads: " + a["err"]
	case "message delivered":
		if a["role"] == "store" {
			return "put it into " + mailbox(a) + " of " + a["account"]
		}
		if a["action"] != "" {
			return "is done with " + a["action"] + " for " + a["to"]
		}
		return "delivered it to " + a["to"] + attempt(a)
	case "message handed over":
		return "handed it to " + a["host"] + " (" + a["peer"] + ", " + encryption(a["tls"]) + ") for " + strings.ReplaceAll(a["to"], " ", ", ") + "; " + a["reply"]
	case "message taken by a store":
		return "gave it to the store at " + a["host"] + " for " + a["to"] + ", which said: " + a["reply"]
	case "next hop did not answer well":
		return "could not use the host " + a["host"] + " (" + a["peer"] + "): " + a["err"]
	case "message deferred":
		return "could not deliver it to " + a["to"] + attempt(a) + ": " + a["err"] + "; next attempt " + clock(a["next"])
	case "message failed":
		return "gave up on " + a["to"] + attempt(a) + ": " + cmp.Or(a["err"], a["status"])
	}
	return cmp.Or(otherSentence(e), plainSentence(e))
}

// otherSentence tells what is less common.
func otherSentence(e journal.Event) string {
	a := e.About
	switch e.Event {
	case "report queued":
		return "told the sender by a report (" + a["action"] + "), which is message " + a["report"]
	case "nobody told, the sender is unproven":
		return "told nobody that it " + a["action"] + ", since nothing proves that <" + a["from"] + "> sent it"
	case "automatic reply sent":
		return "sent the automatic reply of " + a["account"] + " to " + a["to"] + ", which is message " + a["reply"]
	case "no automatic reply":
		return "sent no automatic reply of " + a["account"] + ": " + a["why"]
	case "moderators asked":
		return "asked " + number(a["moderators"], "moderator") + " of " + a["to"] + " whether it may pass"
	case "moderator decided":
		if a["approve"] == "true" {
			return "the moderator " + a["from"] + " of " + a["to"] + " let it pass"
		}
		return "the moderator " + a["from"] + " of " + a["to"] + " did not let it pass"
	case "queue entry changed by command":
		return "the admin's command for entry " + a["queue_id"] + ": " + a["command"]
	case "writing the outcome of an attempt":
		return "could not write down what became of an attempt, and will try it again: " + a["err"]
	}
	return ""
}

// plainSentence is an event as the log has it.
func plainSentence(e journal.Event) string {
	var b strings.Builder
	b.WriteString(e.Event)
	for _, k := range slices.Sorted(maps.Keys(e.About)) {
		if k != "role" && k != "conn" && k != "on" {
			fmt.Fprintf(&b, " %s=%s", k, e.About[k])
		}
	}
	return b.String()
}

func domainSentence(a map[string]string) string {
	switch a["decision"] {
	case "hosted":
		return "asked the directory: " + a["domain"] + " is ours"
	case "alias of hosted":
		return "asked the directory: " + a["domain"] + " is ours, as another name of " + a["canonical"]
	case "hosted elsewhere":
		return "asked the directory: " + a["domain"] + " is ours, but other hosts keep its mail"
	}
	return "asked the directory: " + a["domain"] + " is not ours"
}

func acceptedSentence(a map[string]string) string {
	s := "took the message for " + strings.ReplaceAll(a["to"], " ", ", ")
	s += ": " + size(a["bytes"])
	stored, queued := a["stored"], a["queued"]
	switch {
	case queued == "0":
		s += ", all of it delivered"
	case stored == "0":
		s += ", left to the queue"
	default:
		s += ", " + stored + " delivered, " + queued + " left to the queue"
	}
	if v := a["verdict"]; v != "" {
		s += "; verdict: " + v
	}
	return s + client(a)
}

// client says who brought a message.
func client(a map[string]string) string {
	switch {
	case a["account"] != "":
		return " (client: " + a["account"] + " at " + a["peer"] + ")"
	case a["peer"] != "":
		return " (client: " + a["peer"] + ")"
	}
	return ""
}

func mailbox(a map[string]string) string { return cmp.Or(a["mailbox"], "INBOX") }

// attempt says which one it was; those that an outage of ours ended do not count.
func attempt(a map[string]string) string {
	if n := a["attempt"]; n != "" && n != "0" {
		return " at attempt " + n
	}
	return ""
}

func encryption(s string) string {
	switch s {
	case "verified":
		return "TLS, certificate verified"
	case "unverified":
		return "TLS"
	}
	return "no TLS"
}

func number(n, thing string) string {
	v, err := strconv.Atoi(n)
	if err != nil {
		return n + " " + thing + "s"
	}
	return count(v, thing)
}

func size(n string) string {
	v, err := strconv.ParseInt(n, 10, 64)
	if err != nil {
		return n + " bytes"
	}
	return bytesText(v)
}

// clock is a time of the log for eyes.
func clock(s string) string {
	s, _, _ = strings.Cut(s, " m=")
	for _, layout := range []string{"2006-01-02 15:04:05.999999999 -0700 MST", time.RFC3339Nano} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Local().Format(time.DateTime)
		}
	}
	return s
}
