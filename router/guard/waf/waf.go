// Package waf holds requests against the OWASP Core Rule Set, which is compiled
// into the binary, and against rules of the operator's own.
//
// It judges and does nothing: what a finding means is the caller's business. What
// proves who a client is, its Authorization, is not given to the rules at all, and
// a finding names rules, never what they have matched.
package waf

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
)

// MaxBody is the most bytes of a body that can be looked into.
const MaxBody = 64 << 10

// A Config is what an Engine is made of. The zero Config is the rule set as it
// comes.
type Config struct {
	Paranoia  int    // 1 to 4; 0 is 1
	Threshold int    // score from which a request is denied; 0 is 5, one critical rule
	Rules     []Text // the operator's own, read before the rule set
	Exclude   []Exclusion
}

// A Text is a rule file.
type Text struct{ Name, Directives string }

// An Exclusion takes rules out, for some requests or for all.
type Exclusion struct {
	Rules   []int    // ids
	Tags    []string // of rules, such as attack-sqli
	Tenants []int64  // empty: all
	Routes  []string // classes of requests; empty: all
}

// A Request is what rules see of one.
type Request struct {
	Method, URI, Proto, Host string
	Fields                   []Field
	Client                   netip.Addr
	Tenant                   int64
	Route                    string // its class, "" for none
	Body                     []byte // nil: is not looked into
}

// A Field is one header field.
type Field struct{ Name, Value string }

// A Finding says which rules a request has matched.
type Finding struct {
	Denied bool  // by a rule, or by the sum of them
	Rules  []int // ids, in order, each once
}

// An Engine judges. It is safe for concurrent use and never changes.
type Engine struct{ waf coraza.WAF }

// New compiles the rules: about 150 ms of one core the first time.
func New(c Config) (*Engine, error) {
	config := coraza.NewWAFConfig().WithRootFS(coreruleset.FS).WithDirectives(base).WithDirectives(c.setup())
	for _, t := range c.Rules {
		if err := try(t.Directives); err != nil {
			return nil, fmt.Errorf("rules %s: %w", t.Name, err)
		}
		config = config.WithDirectives(t.Directives)
	}
	w, err := coraza.NewWAF(config.WithDirectives(ruleSet))
	if err != nil {
		return nil, fmt.Errorf("rules: %w", oneLine(err))
	}
	return &Engine{w}, nil
}

// try compiles one file's rules alone, so that an error names the file.
func try(directives string) error {
	w, err := coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(coreruleset.FS).WithDirectives(base).WithDirectives(directives))
	if err != nil {
		return oneLine(err)
	}
	(&Engine{w}).Close()
	return nil
}

func oneLine(err error) error { return errors.New(strings.Join(strings.Fields(err.Error()), " ")) }

// Close gives back what the rules share with those of other engines. Requests
// that are being looked at are not disturbed.
func (e *Engine) Close() {
	if c, ok := e.waf.(experimental.WAFCloser); ok {
		_ = c.Close() // nothing is open
	}
}

// hidden are fields that no rule sees.
var hidden = []string{"Authorization", "Proxy-Authorization"}

// Look judges r.
func (e *Engine) Look(r *Request) (f Finding) {
	tx := e.waf.NewTransaction()
	defer func() { _ = tx.Close() }() // removes the body's file, of which there is none
	about := tx.(plugintypes.TransactionState).Variables().TX()
	about.Set("cellway_tenant", []string{strconv.FormatInt(r.Tenant, 10)})
	about.Set("cellway_route", []string{r.Route})
	if r.Client.IsValid() {
		tx.ProcessConnection(r.Client.String(), 0, "", 0)
	}
	tx.ProcessURI(r.URI, r.Method, r.Proto)
	tx.AddRequestHeader("Host", r.Host)
	for _, h := range r.Fields {
		if !slices.ContainsFunc(hidden, func(name string) bool { return strings.EqualFold(name, h.Name) }) {
			// Coraza 3.8 keeps what it has made of a value by the address of its name: of
			// two values under one string, it can take the first for the second.
			tx.AddRequestHeader(strings.Clone(h.Name), h.Value)
		}
	}
	if tx.ProcessRequestHeaders() == nil {
		_, _, err := tx.WriteRequestBody(r.Body)
		if err == nil {
			_, err = tx.ProcessRequestBody()
		}
		f.Denied = err != nil
	}
	f.Denied = f.Denied || tx.IsInterrupted()
	f.Rules = matched(tx.MatchedRules())
	return f
}

// matched are the rules that say something of the request: not those that prepare
// the rule set, and not those that add up.
func matched(all []types.MatchedRule) []int {
	var ids []int
	for _, m := range all {
		id := m.Rule().ID()
		if setup := id >= 900_000 && id < 911_000; !setup && GroupOf(id) != sum && m.Message() != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// FieldsOf are the fields of r's head, and what net/http takes out of it: without
// a length, rules take a body for smuggled.
func FieldsOf(r *http.Request) []Field {
	out := make([]Field, 0, len(r.Header)+1)
	for name, values := range r.Header {
		for _, v := range values {
			out = append(out, Field{name, v})
		}
	}
	switch {
	case r.ProtoMajor > 1:
	case r.ContentLength < 0:
		out = append(out, Field{"Transfer-Encoding", "chunked"})
	case r.Header["Content-Length"] == nil && (r.ContentLength > 0 || r.Method == http.MethodPost):
		out = append(out, Field{"Content-Length", strconv.FormatInt(r.ContentLength, 10)})
	}
	return out
}
