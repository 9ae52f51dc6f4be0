package directorytest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// credentials are Memory's keys and revoked tokens, each with the version at
// which it last changed.
type credentials struct {
	keys   map[string]*keyRecord
	tokens map[string]*tokenRecord
	newest directory.Version
	head   directory.Head
	links  []directory.Link // of the versions up to newest, from 2 on
}

type keyRecord struct {
	directory.Key
	version directory.Version
}

type tokenRecord struct {
	directory.RevokedToken
	version directory.Version
}

// changed makes a new version of the credentials, in which the one with an id becomes
// what d is of.
func (m *Memory) changed(id string, d directory.Digest) directory.Version {
	m.newest++
	m.credentials.head = m.credentials.head.After(m.newest, d)
	m.links = append(m.links, directory.Link{Credential: id, Digest: d})
	m.wake()
	return m.newest
}

// holder is a tenant that may have keys.
func (m *Memory) holder(id directory.TenantID) error {
	r, ok := m.tenants[id]
	switch {
	case !ok:
		return noTenant(id)
	case r.owned == directory.Deleted:
		return problem.New(problem.Conflict, "tenant %d is deleted", id)
	}
	return nil
}

// AddKey implements directory.Keys.
func (m *Memory) AddKey(ctx context.Context, k directory.Key) (directory.Key, error) {
	if err := k.Validate(); err != nil {
		return k, err
	}
	if err := m.lock(ctx); err != nil {
		return k, err
	}
	defer m.mu.Unlock()
	if err := m.holder(k.Tenant); err != nil {
		return k, err
	}
	if old, ok := m.keys[k.ID]; ok {
		if old.Same(k) && !old.Revoked {
			return old.Key, nil
		}
		return k, problem.New(problem.Conflict, "key %q is taken", k.ID)
	}
	if _, taken := m.claims[name{"key", k.ID}]; taken {
		return k, problem.New(problem.Conflict, "key %q is taken", k.ID)
	}
	if len(m.valid(k.Tenant)) >= directory.MaxKeys {
		return k, problem.New(problem.Conflict, "tenant %d has %d keys already", k.Tenant, directory.MaxKeys)
	}
	k.CreatedAt, k.ExpiresAt, k.Revoked = m.Now().UTC(), k.ExpiresAt.UTC(), false
	m.claims[name{"key", k.ID}] = k.Tenant
	m.keys[k.ID] = &keyRecord{k, m.changed(k.ID, k.Digest())}
	m.note(ctx, "key.add", tenantSubject(k.Tenant), nil, k)
	return k, nil
}

// valid is a tenant's keys that are not revoked, by id.
func (m *Memory) valid(id directory.TenantID) []directory.Key {
	list := []directory.Key{}
	for _, k := range m.keys {
		if k.Tenant == id && !k.Revoked {
			list = append(list, k.Key)
		}
	}
	slices.SortFunc(list, func(a, b directory.Key) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// ListKeys implements directory.Keys.
func (m *Memory) ListKeys(ctx context.Context, id directory.TenantID) ([]directory.Key, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	if _, ok := m.tenants[id]; !ok {
		return nil, noTenant(id)
	}
	return m.valid(id), nil
}

// RevokeKey implements directory.Keys.
func (m *Memory) RevokeKey(ctx context.Context, id directory.TenantID, key string) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	k, ok := m.keys[key]
	if !ok || k.Tenant != id {
		return problem.New(problem.NotFound, "tenant %d has no key %q", id, key)
	}
	if k.Revoked {
		return nil
	}
	before := k.Key
	k.Revoked = true
	k.version = m.changed(key, k.Digest())
	delete(m.claims, name{"key", key})
	m.note(ctx, "key.revoke", tenantSubject(id), before, nil)
	return nil
}

// RevokeToken implements directory.Keys.
func (m *Memory) RevokeToken(ctx context.Context, t directory.RevokedToken) error {
	if err := t.Validate(); err != nil {
		return err
	}
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if _, ok := m.tenants[t.Tenant]; !ok {
		return noTenant(t.Tenant)
	}
	var before any
	t.ExpiresAt = t.ExpiresAt.UTC()
	if old, done := m.tokens[t.ID]; done {
		if !t.Outlives(old.RevokedToken) {
			return nil
		}
		before, t.Tenant = old.RevokedToken, old.Tenant
	}
	m.tokens[t.ID] = &tokenRecord{t, m.changed(t.ID, t.Digest())}
	m.note(ctx, "token.revoke", tenantSubject(t.Tenant), before, t)
	return nil
}

// Credentials implements directory.Keys.
func (m *Memory) Credentials(ctx context.Context, since directory.Version, wait time.Duration) (directory.Credentials, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	if err := m.lock(ctx); err != nil {
		return directory.Credentials{}, err
	}
	defer m.mu.Unlock()
	if since < 0 || since > m.newest {
		return directory.Credentials{}, problem.New(problem.Gone, "cannot continue from version %d", since)
	}
	for waiting := since > 0; waiting && m.newest == since; {
		newer := m.newer
		m.mu.Unlock()
		var err error
		select {
		case <-newer:
		case <-over.C:
			waiting = false
		case <-ctx.Done():
			err = ctx.Err()
		}
		m.mu.Lock()
		if err != nil {
			return directory.Credentials{}, err
		}
	}
	return m.after(since), nil
}

// after is what changed after a version; everything valid after 0.
func (m *Memory) after(since directory.Version) directory.Credentials {
	c := directory.Credentials{Since: since, Version: m.newest, Head: m.credentials.head}
	if since > 0 {
		c.Links = slices.Clone(m.links[since-1:])
	}
	for _, k := range m.keys {
		whole := since == 0 && (k.Revoked || m.tenants[k.Tenant].owned == directory.Deleted)
		if k.version > since && !whole {
			c.Keys = append(c.Keys, k.Key)
		}
	}
	for _, t := range m.tokens {
		if t.version > since {
			c.Tokens = append(c.Tokens, t.RevokedToken)
		}
	}
	slices.SortFunc(c.Keys, func(a, b directory.Key) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(c.Tokens, func(a, b directory.RevokedToken) int { return cmp.Compare(a.ID, b.ID) })
	return c
}
