package h1

import "errors"

// A message is a request as the tests compare it.
type message struct {
	method, target, host string
	fields               []string // "Name: value" of those that are passed on
	body                 string
	close                bool
}

var errIncomplete = errors.New("incomplete")

// judge reads every request that in holds, given to the parser in pieces of the
// sizes given (the last one for ever; none: all at once).
func judge(in []byte, sizes ...int) (all []message, err error) {
	var r Request
	var b Body
	have := 0
	more := func() bool {
		if have == len(in) {
			return false
		}
		n := len(in)
		if len(sizes) > 0 {
			n = max(1, sizes[0])
			if len(sizes) > 1 {
				sizes = sizes[1:]
			}
		}
		have = min(len(in), have+n)
		return true
	}
	for at := 0; ; {
		if at == len(in) {
			return all, nil
		}
		r.Begin(Limits{})
		n := 0
		for n == 0 {
			var f Fault
			if n, f = r.Parse(in[at:have]); f != None {
				return all, f
			}
			if n == 0 && !more() {
				return all, errIncomplete
			}
		}
		r.Bind(string(in[at : at+n]))
		at += n
		m := describe(&r)
		b.Begin(r.Length(), Limits{}, true)
		for !b.Done() {
			data, n, f := b.Next(in[at:have])
			m.body += string(data)
			at += n
			switch {
			case f != None:
				return all, f
			case n == 0 && !more():
				return all, errIncomplete
			}
		}
		all = append(all, m)
	}
}

func describe(r *Request) message {
	m := message{method: r.Method(), target: r.Target(), host: r.Host(), close: r.Close()}
	for i := range r.Len() {
		if r.PassedOn(i) {
			m.fields = append(m.fields, r.Name(i)+": "+r.Value(i))
		}
	}
	return m
}
