package projects

import (
	"context"

	"github.com/cellway/cellway/cell"
	"github.com/cellway/cellway/cell/resource"
	"github.com/cellway/cellway/cell/store"
)

// handlers serve the contract's operations. Each is one transaction: the change
// and its event commit together.
type handlers struct {
	db    *cell.DB
	cache *cell.Cache
}

var _ StrictServerInterface = (*handlers)(nil)

// ListProjects serves GET /v1/projects.
func (h *handlers) ListProjects(ctx context.Context, req ListProjectsRequestObject) (ListProjectsResponseObject, error) {
	var page ProjectPage
	limit := resource.Or(req.Params.Limit, resource.DefaultLimit)
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) error {
		list := resource.List{Tenant: tx.Tenant, Name: "projects"}
		after, err := list.After(req.Params.Cursor)
		if err != nil {
			return err
		}
		items, err := listProjects(ctx, tx, after, limit+1)
		page.Items, page.NextCursor = resource.Cut(list, items, limit, func(p Project) string { return p.ID })
		return err
	})
	if err != nil {
		return nil, err
	}
	return ListProjects200JSONResponse{Body: page, Headers: ListProjects200ResponseHeaders{Link: resource.NextLink(page.NextCursor, limit)}}, nil
}

// CreateProject serves POST /v1/projects.
func (h *handlers) CreateProject(ctx context.Context, req CreateProjectRequestObject) (CreateProjectResponseObject, error) {
	var p Project
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		if p, err = insertProject(ctx, tx, *req.Body); err != nil {
			return err
		}
		return projectEvent(ctx, tx, projectCreated, p.ID, p)
	})
	if err != nil {
		return nil, err
	}
	return CreateProject201JSONResponse{
		Body: p, Headers: CreateProject201ResponseHeaders{ETag: resource.ETag(p.Version), Location: "projects/" + p.ID},
	}, nil
}

// GetProject serves GET /v1/projects/{project}.
func (h *handlers) GetProject(ctx context.Context, req GetProjectRequestObject) (GetProjectResponseObject, error) {
	var p Project
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		p, err = findProject(ctx, tx, req.Project)
		return err
	})
	if err != nil {
		return nil, err
	}
	return GetProject200JSONResponse{Body: p, Headers: GetProject200ResponseHeaders{ETag: resource.ETag(p.Version)}}, nil
}

// UpdateProject serves PATCH /v1/projects/{project}.
func (h *handlers) UpdateProject(ctx context.Context, req UpdateProjectRequestObject) (UpdateProjectResponseObject, error) {
	var p Project
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		if err = lockProject(ctx, tx, req.Project, &req.Params.IfMatch); err != nil {
			return err
		}
		if p, err = updateProject(ctx, tx, req.Project, *req.Body); err != nil {
			return err
		}
		return projectEvent(ctx, tx, projectUpdated, p.ID, p)
	})
	if err != nil {
		return nil, err
	}
	return UpdateProject200JSONResponse{Body: p, Headers: UpdateProject200ResponseHeaders{ETag: resource.ETag(p.Version)}}, nil
}

// DeleteProject serves DELETE /v1/projects/{project}.
func (h *handlers) DeleteProject(ctx context.Context, req DeleteProjectRequestObject) (DeleteProjectResponseObject, error) {
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := lockProject(ctx, tx, req.Project, req.Params.IfMatch); err != nil {
			return err
		}
		if err := deleteProject(ctx, tx, req.Project); err != nil {
			return err
		}
		return projectEvent(ctx, tx, projectDeleted, req.Project, deleted{ID: req.Project})
	})
	if err != nil {
		return nil, err
	}
	return DeleteProject204Response{}, nil
}
