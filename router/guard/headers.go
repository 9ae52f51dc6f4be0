package guard

import (
	"strconv"
	"time"
)

// Limited reports whether the verdict has something to say in RateLimit headers.
func (v *Verdict) Limited() bool { return v.limit != nil }

// Tighter is the verdict whose allowance is nearer to its end.
func (v Verdict) Tighter(o Verdict) Verdict {
	if o.limit == nil || v.limit != nil && v.left.remaining <= o.left.remaining {
		return v
	}
	return o
}

// Policy is the value of RateLimit-Policy: what is allowed.
func (v *Verdict) Policy() string { return v.limit.policy }

// AppendLeft appends the value of RateLimit: what is left of it.
func (v *Verdict) AppendLeft(b []byte) []byte {
	b = append(append(append(b, '"'), v.limit.name...), `";r=`...)
	b = strconv.AppendInt(b, int64(v.left.remaining), 10)
	return strconv.AppendInt(append(b, ";t="...), seconds(v.left.reset), 10)
}

// seconds rounds up: who comes a moment early is refused again.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
