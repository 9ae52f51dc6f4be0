package router

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router/front"
	"github.com/cellway/cellway/router/pool"
)

const (
	signupTimeout = 10 * time.Second
	signupBody    = 64 << 10
	knownWithin   = time.Second // for the router's own table; then the answer goes out all the same
)

// newSignup forwards sign-ups to the directory. It has connections of its own:
// a directory that hangs takes nothing from tenants' requests. It is told the client's
// address alone: it counts the last one that it is told. The table is brought up to
// date before a new tenant is told its name: it may use it at once, and here it is known.
func newSignup(o *Options) http.Handler {
	if o.Directory == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			front.Refused(r.Context())
			telemetry.Problem(w, r, source, problem.New(problem.NotFound, "there is no sign-up here"))
		})
	}
	reverse := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = o.Directory.Scheme, o.Directory.Host
			pr.Out.Host = ""
			setForwarded(pr)
			pr.Out.Header.Set("X-Forwarded-For", o.Guard.ClientOf(pr.In).String())
			otel.GetTextMapPropagator().Inject(pr.Out.Context(), propagation.HeaderCarrier(pr.Out.Header))
		},
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSHandshakeTimeout: dialTimeout,
			ResponseHeaderTimeout: signupTimeout, IdleConnTimeout: pool.IdleTime, MaxIdleConnsPerHost: 16, MaxConnsPerHost: 64, DisableCompression: true,
		},
		ModifyResponse: func(resp *http.Response) error {
			resp.Header.Del(telemetry.RequestIDHeader)
			if resp.StatusCode == http.StatusCreated && o.Refresh != nil {
				ctx, cancel := context.WithTimeout(resp.Request.Context(), knownWithin)
				defer cancel()
				_ = o.Refresh(ctx) // the table hears of it a little later
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			front.Refused(r.Context())
			telemetry.Problem(w, r, source, signupError(err))
		},
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), signupTimeout)
		defer cancel()
		reverse.ServeHTTP(w, r.WithContext(ctx))
	})
}

func signupError(err error) error {
	return problem.Wrap(problem.Unavailable, err, "sign-up is not available now").After(5 * time.Second)
}
