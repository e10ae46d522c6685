package store_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"mailsrv/pkg/store"
)

func TestRecordLimits(t *testing.T) {
	var b bytes.Buffer
	if err := store.WriteRecord(&b, store.Record{Message: &store.CarriedMessage{UID: 7, Prefix: []byte("x\r\n")}, Size: 4}); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	r, err := store.ReadRecord(bufio.NewReader(bytes.NewReader(whole)))
	if err != nil || r.Size != 4 || r.Message.UID != 7 || string(r.Message.Prefix) != "x\r\n" {
		t.Errorf("%+v %v", r, err)
	}
	for n := range whole {
		if _, err := store.ReadRecord(bufio.NewReader(bytes.NewReader(whole[:n]))); !errors.Is(err, store.ErrCargo) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if err := store.WriteRecord(io.Discard, store.Record{Message: &store.CarriedMessage{Prefix: make([]byte, 2<<20)}}); err == nil {
		t.Error("a record is as large as it likes")
	}
}

func FuzzReadRecord(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0c{\"end\":true}"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte("\x00\x00\x00\x1a{\"message\":{},\"size\":-1}  "))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := store.ReadRecord(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			if !errors.Is(err, store.ErrCargo) {
				t.Error(err)
			}
			return
		}
		if r.Size < 0 || r.Size > 0 && r.Message == nil {
			t.Errorf("%+v", r)
		}
	})
}
