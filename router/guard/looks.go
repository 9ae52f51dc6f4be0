package guard

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/router/guard/openapi"
	"github.com/cellway/cellway/router/guard/waf"
)

// A Mode is what follows from looking into requests.
type Mode string

// The modes. The zero Mode is that of the whole policy, or Off.
const (
	Off    Mode = "off"
	Detect Mode = "detect" // count and log
	Block  Mode = "block"  // and refuse
)

func (m Mode) or(other Mode) Mode {
	if m == "" {
		return other
	}
	return m
}

func (m Mode) valid() bool { return m == "" || m == Off || m == Detect || m == Block }

// Looks is what a class of requests is held against, besides limits.
type Looks struct {
	Contract Mode `yaml:"contract"`
	WAF      Mode `yaml:"waf"`
	// InspectBody lets both look into bodies of up to so many bytes, at most 64 KB; 0:
	// at heads only.
	InspectBody int `yaml:"inspect_body"`
}

// A Contract is the OpenAPI document of the tenants' API.
type Contract struct {
	File     string `yaml:"file"`
	Mode     Mode   `yaml:"mode"` // of requests whose route says nothing
	document []byte
}

// WAF is the OWASP Core Rule Set, and rules of the operator's own.
type WAF struct {
	Mode      Mode        `yaml:"mode"`       // of requests whose route says nothing
	PerSecond int         `yaml:"per_second"` // requests that detect looks at; 0: 25
	Paranoia  int         `yaml:"paranoia"`   // 1 to 4; 0: 1
	Threshold int         `yaml:"threshold"`  // score from which a request is denied; 0: 5
	Rules     []string    `yaml:"rules"`      // files
	Exclude   []Exclusion `yaml:"exclude"`
	texts     []waf.Text
}

// An Exclusion takes rules out, of all requests or of those that it names.
type Exclusion struct {
	Rules   []int                `yaml:"rules"`   // ids
	Tags    []string             `yaml:"tags"`    // such as attack-sqli
	Tenants []directory.TenantID `yaml:"tenants"` // empty: all
	Routes  []string             `yaml:"routes"`  // by name; empty: all
}

const defaultPerSecond = 25

// validateLooks checks what is about looking into requests; routes are their names.
func (p *Policy) validateLooks(routes map[string]bool) error {
	contract := p.Contract.Mode.or(Off) != Off
	if p.Signup.Contract != "" {
		return bad("signup: it is held against the directory's contract, there")
	}
	all := []Looks{{Contract: p.Contract.Mode, WAF: p.WAF.Mode}, p.Signup}
	for i := range p.Routes {
		all = append(all, p.Routes[i].Looks)
	}
	for _, l := range all {
		contract = contract || l.Contract.or(Off) != Off
		switch {
		case !l.Contract.valid() || !l.WAF.valid():
			return bad("contract and waf must be off, detect or block")
		case l.InspectBody < 0 || l.InspectBody > waf.MaxBody:
			return bad("inspect_body must be 0 to %d", waf.MaxBody)
		}
	}
	switch {
	case contract && p.Contract.File == "":
		return bad("contract: file is missing")
	case p.WAF.PerSecond < 0 || p.WAF.PerSecond > 1_000_000:
		return bad("waf: per_second must be 0 to a million")
	case p.WAF.Paranoia < 0 || p.WAF.Paranoia > 4:
		return bad("waf: paranoia must be 1 to 4")
	case p.WAF.Threshold < 0:
		return bad("waf: threshold must not be negative")
	}
	for i, x := range p.WAF.Exclude {
		if err := x.validate(routes); err != nil {
			return bad("waf.exclude[%d]: %s", i, err)
		}
	}
	return nil
}

func (x *Exclusion) validate(routes map[string]bool) error {
	if len(x.Rules)+len(x.Tags) == 0 {
		return bad("rules or tags are needed")
	}
	for _, id := range x.Rules {
		if id <= 0 {
			return bad("rule %d is none", id)
		}
	}
	for _, tag := range x.Tags {
		if tag == "" || strings.Trim(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/") != "" {
			return bad("tag %q is none", tag)
		}
	}
	for _, name := range x.Routes {
		if (!routes[name] || name == "default") && name != signupClass {
			return bad("no route %q", name)
		}
	}
	return nil
}

// files are those that the policy names.
func (p *Policy) files() []string {
	var out []string
	if p.Contract.File != "" {
		out = append(out, p.Contract.File)
	}
	return append(out, p.WAF.Rules...)
}

// read reads them. Names are relative to dir.
func (p *Policy) read(dir string) error {
	within := func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(dir, name)
	}
	for i, name := range p.WAF.Rules {
		p.WAF.Rules[i] = within(name)
	}
	var err error
	if p.Contract.File != "" {
		p.Contract.File = within(p.Contract.File)
		if p.Contract.document, err = os.ReadFile(p.Contract.File); err != nil {
			return fmt.Errorf("contract: %w", err)
		}
	}
	for _, name := range p.WAF.Rules {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("waf: %w", err)
		}
		p.WAF.texts = append(p.WAF.texts, waf.Text{Name: name, Directives: string(b)})
	}
	return nil
}

// looks are what requests are held against, made ready.
type looks struct {
	contract *openapi.Contract // nil: nobody asks for it
	waf      *waf.Engine       // as above
	config   waf.Config
	interval time.Duration // between two samples
	general  Looks         // of requests without a route
	signup   Looks
}

// signupClass is the class of sign-ups, which exclusions may name.
const signupClass = "signup"

// looksOf is nil where no request is looked into. An engine that had the same rules
// is used again.
func looksOf(p *Policy, had *looks) (*looks, error) {
	l := &looks{general: Looks{Contract: p.Contract.Mode.or(Off), WAF: p.WAF.Mode.or(Off)}, interval: time.Second / defaultPerSecond}
	l.signup = Looks{Contract: Off, WAF: p.Signup.WAF.or(l.general.WAF), InspectBody: p.Signup.InspectBody}
	contract, rules := l.general.Contract != Off, l.general.WAF != Off || l.signup.WAF != Off
	for _, r := range p.Routes {
		contract = contract || r.Contract.or(Off) != Off
		rules = rules || r.WAF.or(Off) != Off
	}
	if !contract && !rules {
		had.close(nil)
		return nil, nil //nolint:nilnil // nothing is what is asked for
	}
	if p.WAF.PerSecond > 0 {
		l.interval = time.Second / time.Duration(p.WAF.PerSecond)
	}
	var err error
	if contract {
		if l.contract, err = openapi.Read(p.Contract.document); err != nil {
			return nil, fmt.Errorf("contract %s: %w", p.Contract.File, err)
		}
	}
	if rules {
		l.config = p.WAF.config()
		if had != nil && had.waf != nil && reflect.DeepEqual(had.config, l.config) {
			l.waf = had.waf
		} else if l.waf, err = waf.New(l.config); err != nil {
			return nil, fmt.Errorf("waf: %w", err)
		}
	}
	had.close(l.waf)
	return l, nil
}

// close gives back l's engine, unless it is the one that is used from now on.
func (l *looks) close(next *waf.Engine) {
	if l != nil && l.waf != nil && l.waf != next {
		l.waf.Close()
	}
}

func (w *WAF) config() waf.Config {
	c := waf.Config{Paranoia: w.Paranoia, Threshold: w.Threshold, Rules: w.texts}
	for _, x := range w.Exclude {
		out := waf.Exclusion{Rules: x.Rules, Tags: x.Tags, Routes: x.Routes}
		for _, t := range x.Tenants {
			out.Tenants = append(out.Tenants, int64(t))
		}
		c.Exclude = append(c.Exclude, out)
	}
	return c
}
