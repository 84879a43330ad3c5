"""What each command does, one file a command.

Every file has `main(config, console)`, which the table in `nearer.cli` names: it shows progress
bars and prints the result. What it calls (`run_sft` ...) prints nothing and is for Python.

    collect       env and its demonstrator            -> LeRobotDataset
    sft           data set                            -> run: policy, reward, calibration
    improve       Stage-1 run and env                 -> run: better policy, its episodes
    eval          checkpoint and env                  -> eval_info.json, videos
    eval_reward   checkpoint and labelled episodes    -> metrics of its reward model
    label         data set and checkpoint             -> steps-to-go and rewards beside its frames
    export        run or data set                     -> rerun recording
    report        runs                                -> HTML page
    push          run                                 -> model card, model on the hub
    serve         checkpoint                          -> websocket server
    pretrain      drawn scenes and captions           -> weights of the vision encoder
"""
