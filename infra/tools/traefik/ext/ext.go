// Package ext stands in for the extension points of Traefik's enterprise edition:
// a module of its own repository that the module proxy does not serve.
package ext

// HTTP extends the HTTP configuration with nothing.
type HTTP struct{}

// DeepCopyInto is called by generated code.
func (in *HTTP) DeepCopyInto(out *HTTP) { *out = *in }

// Router extends a router with nothing.
type Router struct{}

// DeepCopyInto is called by generated code.
func (in *Router) DeepCopyInto(out *Router) { *out = *in }
