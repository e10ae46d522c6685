package mmp

import (
	"context"
	"testing"
	"time"

	"mailsrv/pkg/mail"
)

func TestSessions(t *testing.T) {
	s := &Sessions{PerAccount: 2}
	begin := func(account string) (context.Context, func(), bool) {
		return s.begin(t.Context(), SessionEntry{Account: account, Trace: mail.NewTraceID(), Since: time.Now()})
	}
	first, endFirst, _ := begin("alice@x")
	second, endSecond, _ := begin("alice@x")
	other, endOther, _ := begin("bob@x")
	defer endOther()
	if _, _, ok := begin("alice@x"); ok {
		t.Error("a third session of an account of two")
	}
	if list := s.List(); len(list) != 3 || list[0].Account != "alice@x" || list[2].Account != "bob@x" || list[1].Since.Before(list[0].Since) {
		t.Errorf("%+v", list)
	}
	endSecond()
	if second.Err() == nil || len(s.List()) != 2 {
		t.Error("the end of a session was not noted")
	}
	if n := s.Kick("ALICE@x"); n != 1 || first.Err() == nil || other.Err() != nil {
		t.Errorf("kicked %d: %v %v", n, first.Err(), other.Err())
	}
	endFirst()
	if n := s.Kick(string(s.List()[0].Trace)); n != 1 || other.Err() == nil || s.Kick("nobody") != 0 {
		t.Errorf("kicked %d by trace", n)
	}
	if _, end, ok := begin("alice@x"); !ok {
		t.Error("room was not given back")
	} else {
		end()
	}
	same := SessionEntry{Account: "carol@x", Trace: mail.NewTraceID()}
	_, endA, _ := s.begin(t.Context(), same)
	_, endB, _ := s.begin(t.Context(), same)
	endA()
	if len(s.List()) != 2 {
		t.Error("two sessions under one name are one")
	}
	endB()
	if ctx, end, ok := (*Sessions)(nil).begin(t.Context(), same); !ok || ctx != t.Context() {
		t.Error("no registry refuses")
	} else {
		end()
	}
}
