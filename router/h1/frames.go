package h1

import "encoding/binary"

// Frames follows where the frames of a WebSocket begin and end (RFC 6455, 5.2), in one
// direction. It reads heads only, judges nothing, and keeps no byte: any split of the
// bytes gives the same ends. The zero value is between two frames.
type Frames struct {
	seen   uint8  // bytes of the head under way; 0: between two frames
	size   uint8  // bytes of the length behind its first two: 0, 2 or 8
	mask   uint8  // bytes of the mask: 0 or 4
	left   uint64 // bytes of the payload that are to come, once the head is whole
	closes bool
}

const opClose = 8

// Next takes bytes up to the end of the frame under way, or all there are, and says how
// many. At a boundary the next frame begins.
func (f *Frames) Next(b []byte) int {
	n := 0
	for ; !f.headed(); n++ {
		if n == len(b) {
			return n
		}
		f.head(b[n])
	}
	take := min(f.left, uint64(len(b)-n))
	if f.left -= take; f.left == 0 {
		f.seen = 0
	}
	return n + int(take)
}

// Follow takes all of b.
func (f *Frames) Follow(b []byte) {
	for len(b) > 0 {
		b = b[f.Next(b):]
	}
}

// Between reports whether a frame has ended and none has begun.
func (f *Frames) Between() bool { return f.seen == 0 }

// Closed reports whether a close frame went by, whole. After it no frame may come.
func (f *Frames) Closed() bool { return f.closes && f.Between() }

// headed reports whether the head under way is whole.
func (f *Frames) headed() bool { return f.seen >= 2 && f.seen == 2+f.size+f.mask }

func (f *Frames) head(b byte) {
	switch {
	case f.seen == 0:
		f.size, f.mask, f.left = 0, 0, 0
		f.closes = f.closes || b&0x0f == opClose
	case f.seen == 1:
		if b&0x80 != 0 {
			f.mask = 4
		}
		switch n := b & 0x7f; n {
		case 126:
			f.size = 2
		case 127:
			f.size = 8
		default:
			f.left = uint64(n)
		}
	case f.seen < 2+f.size:
		f.left = f.left<<8 | uint64(b)
	}
	f.seen++
}

// maxControl is the most bytes of a control frame's payload.
const maxControl = 125

// AppendClose appends the close frame of a server: it has no mask.
func AppendClose(out []byte, e Ending) []byte {
	reason := e.Reason[:min(len(e.Reason), maxControl-2)]
	out = append(out, 0x80|opClose, byte(2+len(reason)))
	return append(binary.BigEndian.AppendUint16(out, e.Code), reason...)
}
