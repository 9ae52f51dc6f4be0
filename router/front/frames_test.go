package front

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"golang.org/x/net/http2"
)

// FuzzFrameHeads: what is counted of a client's frames is what a reader of HTTP/2 finds in
// them, in whatever pieces they come, for as long as that reader goes on with the connection.
func FuzzFrameHeads(f *testing.F) {
	var out bytes.Buffer
	w := http2.NewFramer(&out, nil)
	w.AllowIllegalWrites = true
	for _, write := range []func() error{
		func() error { return w.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: maxFrame}) },
		func() error {
			return w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}, PadLength: 3})
		},
		func() error { return w.WriteContinuation(1, true, []byte{0x84}) },
		func() error { return w.WriteData(1, false, []byte("hello")) },
		func() error { return w.WriteDataPadded(1, true, []byte("hello"), make([]byte, 9)) },
		func() error { return w.WriteRSTStream(1, http2.ErrCodeCancel) },
		func() error { return w.WriteWindowUpdate(0, 0) },
		func() error { return w.WriteRawFrame(0x77, 0xff, 1<<31|3, []byte("?")) },
		func() error { return w.WriteRawFrame(http2.FrameRSTStream, 0, 1, nil) },
		func() error { return w.WriteRawFrame(http2.FrameData, flagPadded, 1, nil) },
	} {
		if err := write(); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(out.Bytes()), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		var got []frame
		var s frames
		for rest := in; len(rest) > 0; {
			n := min(int(piece)+1, len(rest))
			s.each(rest[:n], func(f frame) string { got = append(got, f); return "" })
			rest = rest[n:]
		}
		r := http2.NewFramer(io.Discard, bytes.NewReader(in))
		r.AllowIllegalReads = true
		r.SetMaxReadFrameSize(maxFrame)
		for at, n := 0, 0; ; n++ {
			found, err := r.ReadFrame()
			if _, ofStream := errors.AsType[http2.StreamError](err); err != nil && !ofStream {
				return // the end, or the connection's
			}
			head, err := http2.ReadFrameHeader(bytes.NewReader(in[at:]))
			if err != nil {
				t.Fatal(err)
			}
			at += headBytes + int(head.Length)
			want := frame{kind: byte(head.Type), flags: byte(head.Flags), stream: head.StreamID, data: int(head.Length)}
			switch of := found.(type) {
			case *http2.DataFrame:
				want.data = len(of.Data())
			case *http2.RSTStreamFrame:
				want.code = uint32(of.ErrCode)
			}
			if n >= len(got) || got[n] != want {
				t.Fatalf("frame %d: got %+v, want %+v", n, got[min(n, len(got)):], want)
			}
		}
	})
}
