package projects

import (
	"context"

	"github.com/cellway/cellway/cell/jobs"
	"github.com/cellway/cellway/cell/resource"
	"github.com/cellway/cellway/cell/store"
)

// ListTasks serves GET /v1/projects/{project}/tasks.
func (h *handlers) ListTasks(ctx context.Context, req ListTasksRequestObject) (ListTasksResponseObject, error) {
	var page TaskPage
	limit := resource.Or(req.Params.Limit, resource.DefaultLimit)
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) error {
		if _, err := findProject(ctx, tx, req.Project); err != nil {
			return err
		}
		list := resource.List{Tenant: tx.Tenant, Name: "tasks/" + req.Project}
		after, err := list.After(req.Params.Cursor)
		if err != nil {
			return err
		}
		items, err := listTasks(ctx, tx, req.Project, after, limit+1)
		page.Items, page.NextCursor = resource.Cut(list, items, limit, func(t Task) string { return t.ID })
		return err
	})
	if err != nil {
		return nil, err
	}
	return ListTasks200JSONResponse{Body: page, Headers: ListTasks200ResponseHeaders{Link: resource.NextLink(page.NextCursor, limit)}}, nil
}

// CreateTask serves POST /v1/projects/{project}/tasks.
func (h *handlers) CreateTask(ctx context.Context, req CreateTaskRequestObject) (CreateTaskResponseObject, error) {
	if err := checkDue(req.Body.DueAt); err != nil {
		return nil, err
	}
	var t Task
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		if t, err = insertTask(ctx, tx, req.Project, *req.Body); err != nil {
			return err
		}
		if err = setAlarm(ctx, tx, t); err != nil {
			return err
		}
		return taskEvent(ctx, tx, taskCreated, t.ID, t)
	})
	if err != nil {
		return nil, err
	}
	return CreateTask201JSONResponse{
		Body: t, Headers: CreateTask201ResponseHeaders{ETag: resource.ETag(t.Version), Location: "../../tasks/" + t.ID},
	}, nil
}

// GetTask serves GET /v1/tasks/{task}.
func (h *handlers) GetTask(ctx context.Context, req GetTaskRequestObject) (GetTaskResponseObject, error) {
	var t Task
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		t, err = findTask(ctx, tx, req.Task)
		return err
	})
	if err != nil {
		return nil, err
	}
	return GetTask200JSONResponse{Body: t, Headers: GetTask200ResponseHeaders{ETag: resource.ETag(t.Version)}}, nil
}

// UpdateTask serves PATCH /v1/tasks/{task}.
func (h *handlers) UpdateTask(ctx context.Context, req UpdateTaskRequestObject) (UpdateTaskResponseObject, error) {
	if err := checkDue(req.Body.DueAt.At); err != nil {
		return nil, err
	}
	var t Task
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		was, err := lockTask(ctx, tx, req.Task, &req.Params.IfMatch)
		if err != nil {
			return err
		}
		if t, err = updateTask(ctx, tx, req.Task, *req.Body); err != nil {
			return err
		}
		if err = changeAlarm(ctx, tx, was, t); err != nil {
			return err
		}
		return taskEvent(ctx, tx, taskUpdated, t.ID, t)
	})
	if err != nil {
		return nil, err
	}
	return UpdateTask200JSONResponse{Body: t, Headers: UpdateTask200ResponseHeaders{ETag: resource.ETag(t.Version)}}, nil
}

// TransitionTask serves POST /v1/tasks/{task}/transition.
func (h *handlers) TransitionTask(ctx context.Context, req TransitionTaskRequestObject) (TransitionTaskResponseObject, error) {
	var t Task
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) (err error) {
		if t, err = lockTask(ctx, tx, req.Task, req.Params.IfMatch); err != nil {
			return err
		}
		if err = checkTransition(t.State, req.Body.To); err != nil {
			return err
		}
		if t, err = setTaskState(ctx, tx, req.Task, req.Body.To); err != nil {
			return err
		}
		return taskEvent(ctx, tx, taskTransitioned, t.ID, t)
	})
	if err != nil {
		return nil, err
	}
	return TransitionTask200JSONResponse{Body: t, Headers: TransitionTask200ResponseHeaders{ETag: resource.ETag(t.Version)}}, nil
}

// DeleteTask serves DELETE /v1/tasks/{task}.
func (h *handlers) DeleteTask(ctx context.Context, req DeleteTaskRequestObject) (DeleteTaskResponseObject, error) {
	err := h.db.InTenant(ctx, func(ctx context.Context, tx *store.Tx) error {
		t, err := lockTask(ctx, tx, req.Task, req.Params.IfMatch)
		if err != nil {
			return err
		}
		if err := deleteTask(ctx, tx, req.Task); err != nil {
			return err
		}
		if t.DueAt != nil {
			if err := jobs.Cancel(ctx, tx, taskDueJob, t.ID); err != nil {
				return err
			}
		}
		return taskEvent(ctx, tx, taskDeleted, req.Task, deleted{ID: req.Task})
	})
	if err != nil {
		return nil, err
	}
	return DeleteTask204Response{}, nil
}
