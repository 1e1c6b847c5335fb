from xlscale.tasks.common import *  # placeholder until the metrics branch is merged

Task = object
