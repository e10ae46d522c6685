package directory

import (
	"testing"
	"time"
)

func TestMoveIsReadAsItWasWritten(t *testing.T) {
	for _, m := range []Move{
		{Step: MoveCopying, From: "a.example", To: "b.example", Status: OverQuota, Started: time.Unix(1_800_000_000, 0)},
		{Step: MoveFlipped, To: "b.example", Started: time.Unix(1, 0)}, {Step: MoveDone, From: "a", Started: time.Unix(1, 0)},
	} {
		u := User{Entry: Entry{Attributes: []Attribute{attr("mailsrvMove", m.String())}}}
		if got, err := u.Move(); err != nil || got != m {
			t.Errorf("%s became %+v: %v", m, got, err)
		}
	}
	for _, bad := range []string{"flying to=b", "copying from=a", "copying to=b started=x"} {
		u := User{Entry: Entry{Attributes: []Attribute{attr("mailsrvMove", bad)}}}
		if m, err := u.Move(); err == nil {
			t.Errorf("%q became %+v", bad, m)
		}
	}
	if m, err := (User{}).Move(); err != nil || m.Unfinished() {
		t.Errorf("%+v %v", m, err)
	}
}
