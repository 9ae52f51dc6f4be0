package store_test

import (
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

func TestMembership(t *testing.T) {
	t.Parallel()
	directorytest.RunMembership(t, func(t *testing.T) directorytest.Members {
		url := fresh(t)
		s, pool := open(t, url), raw(t, url)
		return directorytest.Members{Membership: s.Membership(), Forget: func(t *testing.T, id directory.CellID) {
			exec(t, pool, `DELETE FROM directory.heartbeats WHERE cell = $1`, id)
		}}
	})
}

func TestLeaser(t *testing.T) {
	t.Parallel()
	directorytest.RunLeaser(t, func(t *testing.T) directorytest.Leases {
		url := fresh(t)
		s, pool := open(t, url), raw(t, url)
		return directorytest.Leases{Leaser: s.Leaser(), Break: func(t *testing.T, name string) {
			exec(t, pool, `
				SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				 WHERE datname = current_database() AND application_name LIKE 'lease ' || $1 || ' %'`, name)
		}}
	})
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	directorytest.RunQuotas(t, func(t *testing.T, q directory.Quotas) directory.Directory {
		s := open(t, fresh(t))
		s.Quotas = q
		return s
	})
}
