"""Faust with record batches: one partition's fetch is one message, committed when it is acknowledged.

    app = build_app(StreamOptions(...), handler, listener)   # app.py
    sys.exit(run_worker(app))                                # worker.py

Pure: commits.py, progress.py, batch.py, errors.py. On Faust and aiokafka: the others. Nothing is imported
here, so that the pure ones load without Faust.
"""
